"""Charges for meters, from the YAML of a contract to the lines of a draft."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from kernel.errors import InvalidInput
from kernel.window import DAY_MS, HOUR_MS, month
from tests.billing.deals import ACME, Office, contract_text

OCTOBER = month("2026-10")
START = OCTOBER.start_ms
CALLS = """\
charges:
  - charge: calls
    description: API calls
    meter: api-calls
    steps:
      - start: 2026-10-01
        model: {kind: graduated, tiers: [{up_to: "100", unit: "0.10"}, {up_to: null, unit: "0.05"}]}
"""
CALLS_BY_HOUR = {"main": {START: Fraction(90), START + HOUR_MS: Fraction(60)}, "spare": {START: Fraction(50)}}


def draft(office: Office, more: str, calls: dict[str, dict[int, Fraction]] | None = None) -> dict[str, Any]:
    office.usage.meters["api-calls"] = CALLS_BY_HOUR if calls is None else calls
    office.book.add_contract(contract_text(more=more), "contract.yaml", "test")
    return office.run.draft(ACME, "2026-10").document()


def amounts(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(line["kind"], line["amount"]) for line in document["lines"] if not line["informational"]]


def test_a_charge_is_priced_together_and_its_parts_say_how(small_office: Office) -> None:
    document = draft(small_office, CALLS)
    assert amounts(document) == [("overage", "0.00"), ("charge:calls", "15.00")]
    derivation = document["lines"][2]["derivation"]
    assert derivation["rate"] is None
    assert [part["amount"]["exact"] for part in derivation["parts"]] == ["10", "5"]
    assert sum(Fraction(part["amount"]["exact"]) for part in derivation["parts"]) == Fraction(
        derivation["unrounded"]["exact"]
    )


def test_groups_are_priced_apart(small_office: Office) -> None:
    document = draft(small_office, CALLS.replace("meter: api-calls", "meter: api-calls\n    group_by: cluster"))
    assert amounts(document)[1:] == [("charge:calls", "12.50"), ("charge:calls", "5.00")]
    assert [line["description"] for line in document["lines"][2:]] == [
        "API calls (cluster main)",
        "API calls (cluster spare)",
    ]


def test_a_ramp_cuts_the_period_and_nothing_used_is_a_line_of_zero(small_office: Office) -> None:
    ramp = '      - {start: 2026-10-16, model: {kind: per-unit, unit: "1"}}\n'
    later = {"main": {START: Fraction(10), START + 15 * DAY_MS: Fraction(3)}}
    document = draft(small_office, CALLS + ramp, later)
    assert amounts(document)[1:] == [("charge:calls", "1.00"), ("charge:calls", "3.00")]
    assert (
        document["lines"][2]["period"]["end"]
        == document["lines"][3]["period"]["start"]
        == "2026-10-16T00:00:00.000Z"
    )


def test_a_contract_for_other_meters_stands_beside_and_bills_nothing_twice(small_office: Office) -> None:
    small_office.usage.meters["api-calls"] = CALLS_BY_HOUR
    small_office.book.add_contract(contract_text(), "contract.yaml", "test")
    beside = contract_text(contract="calls", vcpu=0, on_demand=False, more=CALLS)
    small_office.book.add_contract(beside, "beside.yaml", "test")
    with pytest.raises(InvalidInput, match=r"charges\[0\]\.meter.*a meter that contract calls does not charge"):
        small_office.book.add_contract(beside.replace("contract: calls", "contract: again"), "again.yaml", "test")
    grown = beside.replace("vcpu: 0}\n", "vcpu: 0}\n  - {start: 2026-12-01, vcpu: 4}\nversion: 2\n")
    with pytest.raises(InvalidInput, match="both would bill the same vCPU"):
        small_office.book.add_contract(grown, "beside.yaml", "test")

    drafts = small_office.run.due(ACME, "2026-10", small_office.run.known([ACME]))
    assert [(one.agreed.contract.contract, one.kind) for one in drafts] == [
        ("acme-2026", "commitment"),
        ("acme-2026", "usage"),
        ("calls", "usage"),
    ]
    assert [amounts(one.document()) for one in drafts[1:]] == [[("overage", "0.00")], [("charge:calls", "15.00")]]


def test_nothing_used_is_stated(small_office: Office) -> None:
    assert amounts(draft(small_office, CALLS, {}))[1:] == [("charge:calls", "0.00")]


def test_a_model_comes_from_a_price_book_on_the_day_its_step_begins(small_office: Office) -> None:
    book = """\
price_book: standard
version: 1
models:
  - {item: calls, currency: USD, start: 2026-01-01, model: {kind: per-unit, unit: "0.01"}}
  - {item: calls, currency: USD, start: 2026-10-10, model: {kind: per-unit, unit: "9"}}
"""
    small_office.book.add_price_book(book, "book.yaml", "test")
    steps = CALLS[: CALLS.index("        model:")] + "        price: {book: standard, version: 1, item: calls}\n"
    document = draft(small_office, steps)
    assert amounts(document)[1:] == [("charge:calls", "2.00")]
    assert [one["snapshot"] for one in document["contract"]["charge_books"]] == [book]


SPEND = 'spend: {min: "100.00"}\n'
TAXED = 'tax: {category: S, rate: "20"}\n'


def test_a_minimum_fills_the_charges_up_before_discounts_and_tax(small_office: Office) -> None:
    discount = 'discounts:\n  - {discount: launch, description: Launch, percent: "10"}\n'
    document = draft(small_office, CALLS + SPEND + discount + TAXED)
    assert amounts(document) == [
        ("overage", "0.00"),
        ("charge:calls", "15.00"),
        ("minimum-spend", "85.00"),
        ("discount:launch", "-10.00"),
    ]
    assert document["totals"] == {"net": "90.00", "tax": "18.00", "gross": "108.00"}


def test_a_maximum_takes_them_down_and_a_discount_names_its_charges(small_office: Office) -> None:
    more = 'spend: {max: "12.00"}\n'
    more += 'discounts:\n  - {discount: launch, description: L, amount: "50", charges: [overage]}\n'
    assert amounts(draft(small_office, CALLS + more))[1:] == [("charge:calls", "15.00"), ("maximum-spend", "-3.00")]


def test_bounds_are_split_over_the_taxes_of_what_was_charged(small_office: Office) -> None:
    other = CALLS.replace("charges:\n", "").replace("calls", "reads", 1).replace("API calls", "Reads")
    other = other.replace("meter: api-calls", 'meter: api-calls\n    tax: {category: S, rate: "10"}')
    document = draft(small_office, CALLS + other + SPEND + TAXED)
    added = [line for line in document["lines"] if line["kind"] == "minimum-spend"]
    assert [(line["amount"], line["tax"]["rate"]) for line in added] == [("35.00", "20"), ("35.00", "10")]
    assert document["totals"]["net"] == "100.00"


def test_a_spend_commitment_is_trued_up_in_the_last_month_of_its_period(small_office: Office) -> None:
    every_month = 'spend_commitment: {amount: "40.00", every: month}\n'
    assert amounts(draft(small_office, CALLS + every_month))[2:] == [("commitment-true-up", "25.00")]
    within = contract_text("other", term=("2026-10-17", "2027-10-17"), more=every_month)
    with pytest.raises(InvalidInput, match=r"term\.start: found 2026-10-17; allowed: the first day of a month"):
        small_office.book.add_contract(within, "within.yaml", "test")


def test_a_quarter_counts_what_earlier_invoices_charged(small_office: Office) -> None:
    quarter = 'spend_commitment: {amount: "40.00", every: quarter}\n'
    assert amounts(draft(small_office, CALLS + quarter))[2:] == [], "the quarter has two more months"
    small_office.run.close(ACME, "2026-10")
    small_office.clock.step_wall(30 * 86_400)
    small_office.run.close(ACME, "2026-11")
    december = small_office.run.draft(ACME, "2026-12").document()
    assert amounts(december)[1:] == [("charge:calls", "0.00"), ("commitment-true-up", "25.00")]


@pytest.mark.parametrize(
    ("before", "after", "field", "allowed"),
    [
        (
            "start: 2026-10-01\n        model",
            "start: 2026-10-02\n        model",
            "charges[0].steps[0].start",
            "no price",
        ),
        ("meter: api-calls", "meter: API", "charges[0].meter", "a-z"),
        ("model: {kind: graduated", "model: {kind: gradual", "charges[0].steps[0].model.kind", "one of per-unit"),
        (
            "        model:",
            "        price: {book: none, version: 1, item: calls}\n        model:",
            "charges[0].steps[0]",
            "one of",
        ),
        ('unit: "0.05"', "unit: 0.05", "charges[0].steps[0].model.tiers[1].unit", "in quotes"),
        ("description: API", "charge: again\n    description: API", "line", "each key once"),
    ],
)
def test_a_wrong_charge_is_refused_with_its_field(
    small_office: Office, before: str, after: str, field: str, allowed: str
) -> None:
    assert before in CALLS
    with pytest.raises(InvalidInput) as caught:
        small_office.book.add_contract(contract_text(more=CALLS.replace(before, after)), "contract.yaml", "test")
    finding = caught.value.findings[0]
    assert finding.where.startswith(field), finding
    assert allowed in finding.allowed, finding
    assert not small_office.book.contracts(ACME)


def test_a_discount_for_an_unknown_charge_is_refused(small_office: Office) -> None:
    more = CALLS + "discounts:\n  - {discount: launch, description: L, percent: '1', charges: [call]}\n"
    with pytest.raises(InvalidInput) as caught:
        small_office.book.add_contract(contract_text(more=more), "contract.yaml", "test")
    assert (caught.value.findings[0].where, caught.value.findings[0].found) == ("discounts[0].charges", "call")
