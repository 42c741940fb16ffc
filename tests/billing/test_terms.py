"""Additions, grace, renewal, trials and capacity true-ups: a worked example each, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.capacity import LicenceCapacity
from billing.contract import parse_contract
from billing.errors import CapacityRefused
from billing.licence import capacity_of, parse_licence
from billing.licence_state import licence_state
from billing.rating.commitment import charges_of
from kernel.clock import from_ms
from kernel.errors import Conflict, InvalidInput
from kernel.ids import JobId
from kernel.steps import StepFunction
from kernel.window import DAY_MS, month
from tests.billing.deals import ACME, Office, contract_text, licence_text

HOUR = 3_600_000


def go_to(office: Office, year: int, month: int, day: int) -> None:
    target = datetime(year, month, day, tzinfo=UTC)
    office.clock.step_wall((target - from_ms(office.clock.now_ms())).total_seconds())


def named(text: str, name: str) -> str:
    return text.replace("licence: acme-licence", f"licence: {name}")


def addition(vcpu: int = 8, valid: tuple[str, str] = ("2027-01-01", "2027-10-01"), more: str = "") -> str:
    return named(licence_text(valid=valid, vcpu=vcpu, more=f"adds_to: acme-licence\n{more}"), "extra")


def day(year: int, number: int, of: int) -> int:
    return int(datetime(year, number, of, tzinfo=UTC).timestamp() * 1000)


# Stacking and co-terming


def test_capacities_of_licences_that_are_valid_at_once_add(small_office: Office) -> None:
    book = small_office.book
    book.add_contract(contract_text(), "c.yaml", "test")
    book.add_licence(licence_text(), "l.yaml", "test")
    book.add_licence(addition(), "l.yaml", "test")
    pilot = named(licence_text(valid=("2026-12-01", "2027-02-01"), vcpu=4, more="stacks: true\n"), "pilot")
    book.add_licence(pilot, "l.yaml", "test")
    capacity = book.capacity(ACME)
    dates = [(2026, 11, 30), (2026, 12, 1), (2027, 1, 1), (2027, 2, 1), (2027, 9, 30), (2027, 10, 1)]
    assert [capacity.at(day(*date)) // 1000 for date in dates] == [16, 20, 28, 24, 24, 0]


def test_an_addition_is_priced_by_the_days_that_are_left() -> None:
    """8 vCPU more for 273 days until the common end: 8 x 273/365 vCPU-years."""
    text = contract_text().replace("vcpu: 16}\n", "vcpu: 16}\n  - {start: 2027-01-01, vcpu: 24}\n")
    first, second = charges_of(parse_contract(text, "c.yaml"))
    assert (first.added_milli_vcpu, second.added_milli_vcpu) == (16_000, 8_000)
    assert (second.window.end_ms - second.window.start_ms) // DAY_MS == 273


@pytest.mark.parametrize(
    ("text", "where", "allowed"),
    [
        (named(licence_text(), "second"), "valid", "stacks: true"),
        (addition(valid=("2027-01-01", "2027-09-01")), "valid.end", "2027-10-01"),
        (addition(valid=("2026-09-01", "2027-10-01")), "valid.start", "2026-10-01 or later"),
        (addition().replace("adds_to: acme-licence", "adds_to: other"), "adds_to", "a stored licence"),
        (addition().replace("adds_to: acme-licence", "adds_to: extra"), "adds_to", "another licence"),
        (addition(more="grace_days: 91\n"), "grace_days", "90"),
        (addition(more="stacks: 1\n"), "stacks", "true or false"),
    ],
)
def test_licences_that_are_refused(small_office: Office, text: str, where: str, allowed: str) -> None:
    small_office.book.add_contract(contract_text(), "c.yaml", "test")
    small_office.book.add_licence(licence_text(), "l.yaml", "test")
    with pytest.raises(InvalidInput) as caught:
        small_office.book.add_licence(text, "l.yaml", "test")
    assert where in str(caught.value)
    assert allowed in str(caught.value)
    assert [one.licence for one in small_office.book.licences(ACME)] == ["acme-licence"]


def test_without_on_demand_licences_together_stay_within_the_commitment(small_office: Office) -> None:
    small_office.book.add_contract(contract_text(on_demand=False), "c.yaml", "test")
    small_office.book.add_licence(licence_text(vcpu=10), "l.yaml", "test")
    small_office.book.add_licence(addition(vcpu=6), "l.yaml", "test")
    with pytest.raises(InvalidInput, match=r"1\.000 vCPU more"):
        small_office.book.add_licence(addition(vcpu=7, more="version: 2\n"), "l.yaml", "test")


# Grace


def test_in_grace_a_licence_counts_and_is_flagged(small_office: Office) -> None:
    licence = parse_licence(licence_text(more="grace_days: 14\n"), "f")
    end_ms = licence.window.end_ms
    used = StepFunction.of([(end_ms - DAY_MS, 4000)])
    before, within, after = (licence_state([licence], used, end_ms + at * DAY_MS) for at in (-1, 13, 14))
    assert (before.capacity, before.grace_until_ms) == (16_000, None)
    assert (within.capacity, within.grace_until_ms) == (16_000, end_ms + 14 * DAY_MS)
    assert within.crossed[-1] == "in grace"
    assert (after.capacity, after.grace_until_ms) == (0, None)
    small_office.book.add_contract(contract_text(on_demand=False), "c.yaml", "test")
    small_office.book.add_licence(licence_text(more="grace_days: 14\n"), "l.yaml", "test")
    capacity = LicenceCapacity(small_office.clock)

    def reserve() -> None:
        small_office.database.transact(
            lambda connection: capacity.reserve(connection, ACME, "c1", 16_000, JobId("job-one"))
        )

    go_to(small_office, 2027, 10, 15)
    with pytest.raises(CapacityRefused, match="expired on 2027-10-01"):
        reserve()
    go_to(small_office, 2027, 10, 14)
    reserve()


def test_grace_ends_where_the_next_licence_begins() -> None:
    old = parse_licence(licence_text(more="grace_days: 30\n"), "f")
    new = parse_licence(named(licence_text(valid=("2027-10-11", "2028-10-01"), vcpu=20), "new"), "f")
    capacity = capacity_of([old, new])
    assert [capacity.at(day(2027, 10, each)) for each in (1, 10, 11)] == [16_000, 16_000, 20_000]


# Renewal

RENEWAL = 'renewal: {years: 1, notice_days: 60, uplift_percent: "5"}\n'


def test_a_contract_renews_with_its_licences_after_the_last_day_of_notice(small_office: Office) -> None:
    """Notice until 2 August 2027; then 16 vCPU go on at 945.00, with the licence and its addition as one of 24."""
    book = small_office.book
    text = contract_text(more=RENEWAL).replace("vcpu: 16}\n", "vcpu: 16}\n  - {start: 2027-01-01, vcpu: 24}\n")
    book.add_contract(text, "c.yaml", "test")
    book.add_licence(licence_text(), "l.yaml", "test")
    book.add_licence(addition(), "l.yaml", "test")
    go_to(small_office, 2027, 8, 2)
    with pytest.raises(Conflict, match="notice may be given until 2027-08-02"):
        book.renew("acme-2026", "test")
    assert book.renewals_due() == []
    go_to(small_office, 2027, 8, 3)
    assert book.renewals_due() == ["acme-2026"]
    previewed = book.renewal("acme-2026")
    assert [name for name, _ in previewed] == ["acme-2026-r2", "acme-licence-r2"]
    assert len(book.contracts(ACME)) == 1
    renewed = book.renew("acme-2026", "test")
    assert book.renewals_due() == []
    assert book.contract("acme-2026-r2").snapshot.text == previewed[0][1]
    assert (renewed.contract, renewed.renews) == ("acme-2026-r2", "acme-2026")
    assert (str(renewed.term.start), str(renewed.term.end)) == ("2027-10-01", "2028-10-01")
    assert renewed.price_per_vcpu_year is not None
    assert f"{renewed.price_per_vcpu_year:f}" == "945.00"
    assert [step.milli_vcpu for step in renewed.commitment] == [24_000]
    assert book.renew("acme-2026", "test") == renewed
    assert book.capacity(ACME).at(day(2027, 10, 1)) == 24_000
    assert [one.licence for one in book.licences(ACME)] == ["acme-licence", "acme-licence-r2", "extra"]
    go_to(small_office, 2028, 9, 1)
    third = book.renew("acme-2026-r2", "test")
    assert (third.contract, f"{third.price_per_vcpu_year:f}") == ("acme-2026-r3", "992.25")


def test_after_notice_a_contract_ends(small_office: Office) -> None:
    book = small_office.book
    book.add_contract(contract_text(more=RENEWAL), "c.yaml", "test")
    noticed = RENEWAL.replace("}", ", notice_given: 2027-06-30}")
    book.add_contract(contract_text(more=f"version: 2\n{noticed}"), "c.yaml", "test")
    go_to(small_office, 2027, 9, 1)
    with pytest.raises(Conflict, match="notice was given on 2027-06-30"):
        book.renew("acme-2026", "test")


# Trials


def test_a_trial_is_metered_and_never_billed(small_office: Office) -> None:
    small_office.book.add_contract(contract_text(more="trial: true\n"), "c.yaml", "test")
    small_office.usage.levels = [(month("2026-10").start_ms, 40_000)]
    closed = small_office.run.close(ACME, "2026-10")
    assert (closed.commitments, closed.invoice.gross) == ((), "0.00")
    line = closed.invoice.document["lines"][1]
    assert line["informational"]
    assert line["derivation"]["rate"]["basis"] == "not billed: a trial"
    assert line["derivation"]["quantity"]["exact"] == str(24 * 31 * 24 * 60), "stated all the same"


# Capacity true-ups


def true_up(every: str) -> str:
    return f"capacity_true_up: {{every: {every}}}\n"


def close_through(office: Office, months: list[str]) -> list[dict[str, Any]]:
    """The true-up lines of the months' invoices, in order."""
    found = []
    for name in months:
        end = from_ms(month(name).end_ms)
        go_to(office, end.year, end.month, 4)
        lines = office.run.close(ACME, name).invoice.document["lines"]
        found += [line for line in lines if line["kind"].endswith("capacity-true-up")]
        overage = next(line for line in lines if line["kind"] == "overage")
        assert overage["informational"], "bought as capacity, not billed by minutes"
    return found


YEAR = [f"2026-{number}" for number in (10, 11, 12)] + [f"2027-0{number}" for number in range(1, 10)]


def test_each_quarter_buys_its_highest_use_for_the_quarters_that_are_left(small_office: Office) -> None:
    """
    commitment 16 vCPU at 900.00 a year; highest use 20 in the first quarter, 18 in the second, 26 in the third
    Q1: 4 more for 3 quarters, 2700.00   Q2: nothing new   Q3: 6 more for 1 quarter, 1350.00   Q4: no quarter left
    """
    small_office.book.add_contract(contract_text(more=true_up("quarter")), "c.yaml", "test")
    starts = [month(YEAR[at]).start_ms for at in (1, 4, 7, 10)]
    small_office.usage.levels = [
        point
        for start, level in zip(starts, (20, 18, 26, 30), strict=True)
        for point in ((start, level * 1000), (start + HOUR, 0))
    ]
    lines = close_through(small_office, YEAR)
    assert [line["amount"] for line in lines] == ["2700.00", "0.00", "1350.00", "0.00"]
    assert lines[2]["description"] == "Capacity true-up of the quarter from 2027-04-01 to 2027-07-01"
    facts = {fact["name"]: fact["value"] for fact in lines[2]["derivation"]["facts"]}
    assert (facts["above_milli_vcpu"], facts["bought_milli_vcpu"]) == ("10000", "4000")
    assert small_office.balance() == 0


def test_the_year_buys_its_highest_use_for_the_whole_of_it(small_office: Office) -> None:
    small_office.book.add_contract(contract_text(more=true_up("year")), "c.yaml", "test")
    start = month("2027-05").start_ms
    small_office.usage.levels = [(start, 18_500), (start + HOUR, 0)]
    [line] = close_through(small_office, YEAR)
    assert line["amount"] == "2250.00", "2.5 vCPU at 900.00"


def test_usage_that_arrives_late_in_an_earlier_month_corrects_the_true_up(small_office: Office) -> None:
    """The first quarter is trued up to 20 vCPU; then October turns out to have seen 22: 2 more for 3 quarters."""
    small_office.book.add_contract(contract_text(more=true_up("quarter")), "c.yaml", "test")
    october, november = month("2026-10").start_ms, month("2026-11").start_ms
    small_office.usage.levels = [(november, 20_000), (november + HOUR, 0)]
    assert [line["amount"] for line in close_through(small_office, YEAR[:3])] == ["2700.00"]
    small_office.usage.levels = [(october, 22_000), (october + HOUR, 0), *small_office.usage.levels]
    [late] = close_through(small_office, YEAR[3:4])
    assert (late["kind"], late["amount"]) == ("correction:capacity-true-up", "1350.00")
    small_office.usage.levels = [(november, 18_000), (november + HOUR, 0)]
    go_to(small_office, 2027, 3, 4)
    [credit] = small_office.run.close(ACME, "2027-02").credits
    assert credit.document["totals"]["net"] == "-2700.00", "4050.00 were billed, 1350.00 are due"


@pytest.mark.parametrize(
    ("more", "on_demand", "where", "allowed"),
    [
        ("capacity_true_up: {every: month}", True, "capacity_true_up.every", "quarter"),
        (true_up("year"), False, "on_demand", "true-up is what bills"),
        ("trial: true\nthreshold: '5'", True, "threshold", "nothing in a trial"),
        ("trial: 1", True, "trial", "true or false"),
        ("renewal: {years: 6}", True, "renewal.years", "5"),
        ("renewal: {notice_days: -1}", True, "renewal.notice_days", "0"),
        ("renewal: {uplift_percent: 5}", True, "renewal.uplift_percent", "decimal in quotes"),
        ("renewal: {uplift_percent: '101'}", True, "renewal.uplift_percent", "at most 100"),
        ("renewal: {notice_given: 2027-08-03}", True, "renewal.notice_given", "at latest 2027-08-02"),
    ],
)
def test_contracts_that_are_refused(more: str, on_demand: bool, where: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_contract(contract_text(on_demand=on_demand, more=f"{more}\n"), "c.yaml")
    assert where in str(caught.value)
    assert allowed in str(caught.value)
