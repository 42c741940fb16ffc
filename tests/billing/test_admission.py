"""What is refused when a contract is added: what would never be billed, or stop a month from closing."""

from __future__ import annotations

import pytest

from billing.contract import parse_contract
from kernel.errors import InvalidInput
from tests.billing.deals import Office, contract_text
from tests.billing.test_cli import Desk

STEP = 'model: {kind: per-unit, unit: "1"}'
RENEWS = "renewal: {years: 1, notice_days: 60}\n"


def discount(days: str, more: str = "") -> str:
    return f'discounts:\n  - {{discount: launch, description: d, percent: "10"{days}}}\n{more}'


def ramp(*starts: str) -> str:
    steps = ", ".join(f"{{start: {start}, {STEP}}}" for start in starts)
    return f"charges:\n  - {{charge: reads, description: d, meter: reads, steps: [{steps}]}}\n"


def add(office: Office, more: str) -> None:
    book = office.book
    type(book)(book.database, book.clock, book.audit, meters=["reads", "writes"]).add_contract(
        contract_text(more=more), "c.yaml", "test"
    )


@pytest.mark.parametrize(
    ("more", "where", "found", "allowed"),
    [
        (discount(", start: 2027-10-01"), "discounts[0].start", "2027-10-01", "before 2027-10-01"),
        (discount(", start: 2026-09-30"), "discounts[0].start", "2026-09-30", "at earliest 2026-10-01"),
        (discount(", end: 2026-10-01"), "discounts[0].end", "2026-10-01", "after 2026-10-01"),
        (discount(", end: 2027-10-02"), "discounts[0].end", "2027-10-02", "at latest 2027-10-01"),
        (
            discount("", '  - {discount: launch, description: d, percent: "5"}\n'),
            "discounts[1].discount",
            "launch again",
            "each id once",
        ),
        (ramp("2026-10-01", "2027-10-01"), "charges[0].steps[1].start", "2027-10-01", "before 2027-10-01"),
        (ramp("2026-01-01", "2026-10-01"), "charges[0].steps[1].start", "2026-10-01", "after 2026-10-01"),
        (ramp("2026-10-01").replace("meter: reads", "meter: rads"), "charges[0].meter", "rads", "reads, writes"),
        (
            "renewal: {notice_given: 2020-01-01}\n",
            "renewal.notice_given",
            "2020-01-01",
            "at earliest 2026-10-01, the first day of the term",
        ),
    ],
)
def test_what_lies_outside_the_term_or_is_no_meter_is_refused(
    small_office: Office, more: str, where: str, found: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(small_office, more)
    [finding] = caught.value.findings
    assert (finding.source, finding.where, finding.found) == ("c.yaml", where, found)
    assert allowed in finding.allowed
    assert finding.line is not None
    assert small_office.book.contracts() == []
    parse_contract(contract_text(more=more), "stored")  # what was stored before there was the rule is read for ever


@pytest.mark.parametrize(
    "more",
    [
        discount(", start: 2026-10-01, end: 2027-10-01"),
        discount(", end: 2028-10-01", RENEWS),
        discount(", start: 2026-09-01", "renews: acme-2025\n"),
        ramp("2026-01-01", "2026-10-02", "2027-09-30"),
        ramp("2026-10-01", "2028-01-01") + RENEWS,
        ramp("2025-01-01", "2026-01-01") + "renews: acme-2025\n",
    ],
)
def test_what_lies_in_the_term_or_in_the_one_before_or_after_is_taken(small_office: Office, more: str) -> None:
    add(small_office, more)


def test_the_command_names_the_meters_of_the_catalogue(tmp_path_factory: pytest.TempPathFactory) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    file = desk.file("c.yaml", contract_text(more=ramp("2026-10-01")))
    with pytest.raises(InvalidInput, match=r"charges\[0\]\.meter: found reads; allowed: .*milvus-search-vectors"):
        desk.invoke("contract", "add", file)
    assert desk.say("contract", "list") == ""
    desk.say("contract", "add", desk.file("right.yaml", contract_text()))
    with pytest.raises(InvalidInput, match=r"charges\[0\]\.meter: found reads"):
        desk.invoke("price", "simulate", "acme", "2026-10", "--as", file)


@pytest.mark.parametrize("day", ["2026-11-03", "2020-01-01"])
def test_prepaid_credits_that_are_expired_are_not_booked(
    tmp_path_factory: pytest.TempPathFactory, day: str
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))  # on 3 November
    words = ("credit", "add", "bought-1", "acme", "5.00", "--currency", "USD", "--reference", "w")
    with pytest.raises(InvalidInput, match=f"--expires: found {day}; allowed: a day after today, 2026-11-03"):
        desk.invoke(*words, "--expires", day)
    assert desk.say("credit", "list", "acme") == "acme has no prepaid credits in USD\n"


def test_prepaid_credits_expire_after_the_first_day_of_a_term(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.say("contract", "add", desk.file("c.yaml", contract_text(term=("2027-01-01", "2028-01-01"))))
    words = ("credit", "add", "bought-1", "acme", "5.00", "--currency", "USD", "--reference", "w")
    with pytest.raises(InvalidInput, match="--expires: found 2027-01-01; allowed: a day after 2027-01-01"):
        desk.invoke(*words, "--expires", "2027-01-01")
    assert "bought-1" in desk.say(*words, "--expires", "2027-01-02")
