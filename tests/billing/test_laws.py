"""What must hold for every contract and every usage, against an oracle written with fractions alone."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.agreed import AgreedContract
from billing.contract import Contract, parse_contract, years_of
from billing.documents import Snapshot
from billing.draft import Draft, MeasuredPeriod, canonical, commitment_draft, usage_draft
from billing.ledger import postings_of
from billing.rating.bases import excess_of
from billing.rating.commitment import charges_of
from kernel.money import Money, currency
from kernel.steps import StepFunction
from kernel.window import DAY_MS, Window, month
from tests.billing.deals import ACME, RecordedUsage, contract_text
from tests.effort import costly

OCTOBER = month("2026-10")
USD = currency("USD")

levels = st.lists(
    st.tuples(st.integers(OCTOBER.start_ms, OCTOBER.end_ms - 1), st.integers(0, 80_000)), max_size=12
).map(StepFunction.of)
taxes = st.sampled_from(["", 'tax: {category: S, rate: "19"}\n', 'tax: {category: AE, rate: "0"}\n'])
texts = st.text(st.characters(codec="utf-8") | st.sampled_from('\\"0-,:[{'))
documents = st.dictionaries(
    st.from_regex("[a-z_]{1,8}", fullmatch=True),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts.filter(str.isascii), inner, max_size=4),
        max_leaves=8,
    ),
    max_size=4,
)
prices = st.decimals("0.01", "99999", places=3).map(lambda price: f"{price:f}")


def _agreed(text: str) -> AgreedContract:
    contract = parse_contract(text, "contract.yaml")
    assert contract.price_per_vcpu_year is not None
    return AgreedContract(contract, Snapshot.of(text), contract.price_per_vcpu_year, None)


def _draft(step: StepFunction, vcpu: int, price: str, tax: str) -> Draft:
    text = contract_text(vcpu=vcpu, more=tax).replace('"900.00"', f'"{price}"')
    usage = RecordedUsage(list(step.points)).month(ACME, OCTOBER)
    return usage_draft(_agreed(text), "2026-10", OCTOBER, MeasuredPeriod(usage, {}))


def _oracle_minutes(step: StepFunction, committed: int) -> Fraction:
    """Overage in vCPU-minutes, moment by moment between breakpoints, without the code under test."""
    edges = sorted({OCTOBER.start_ms, OCTOBER.end_ms, *(at for at, _ in step.points)})
    result, level, values = Fraction(0), 0, dict(step.points)
    for start, end in pairwise(edges):
        level = values.get(start, level)
        result += Fraction(max(0, level - committed), 1000) * Fraction(end - start, 60_000)
    return result


@settings(max_examples=100, deadline=None)
@given(step=levels, vcpu=st.integers(0, 60), price=prices, tax=taxes)
def test_overage_is_what_the_oracle_says_and_lines_sum_to_the_total(
    step: StepFunction, vcpu: int, price: str, tax: str
) -> None:
    draft = _draft(step, vcpu, price, tax)
    document = draft.document()

    minutes = _oracle_minutes(step, vcpu * 1000)
    exact = minutes * Fraction(price) / 365 / 24 / 60
    overage = draft.lines[1]
    assert overage.derivation.quantity == minutes
    assert overage.derivation.unrounded == exact
    assert abs(Fraction(overage.amount.amount) - exact) <= Fraction(1, 200)
    assert sum((quantity for _, quantity in overage.derivation.days), Fraction(0)) == minutes

    amounts = [Decimal(line["amount"]) for line in document["lines"]]
    totals = {name: Decimal(value) for name, value in document["totals"].items()}
    assert sum(amounts) == totals["net"]
    assert totals["net"] + totals["tax"] == totals["gross"]


@costly(100)
@given(step=levels, vcpu=st.integers(0, 60), price=prices, tax=taxes)
def test_entries_sum_to_zero_and_drafts_repeat(step: StepFunction, vcpu: int, price: str, tax: str) -> None:
    draft = _draft(step, vcpu, price, tax)
    charges = charges_of(draft.agreed.contract)

    for each in (draft, *(commitment_draft(draft.agreed, charge) for charge in charges)):
        postings = postings_of(each)
        assert sum(posting.minor_units for posting in postings) == 0
        assert all(posting.minor_units for posting in postings)
        assert each.json() == replace(each).json()


@settings(max_examples=100, deadline=None)
@given(documents)
def test_canonical_json_is_that_of_rfc_8785_and_refuses_every_number(document: dict[str, Any]) -> None:
    numbers: list[str] = []
    json.loads(json.dumps(document, allow_nan=False), parse_int=numbers.append, parse_float=numbers.append)
    if numbers:
        with pytest.raises(ValueError, match="its numbers are strings"):
            canonical(document)
    else:
        assert canonical(document) == rfc8785.dumps(document)


@settings(max_examples=100, deadline=None)
@given(clusters=st.lists(levels, min_size=1, max_size=4), vcpu=st.integers(0, 60))
def test_overage_of_the_sum_is_bounded_by_that_of_parts(clusters: list[StepFunction], vcpu: int) -> None:
    """Sharing a commitment never costs more than giving one cluster all of it and the others none."""
    timeline = StepFunction.constant(OCTOBER, vcpu * 1000)
    summed = excess_of(StepFunction.sum_of(clusters), timeline, OCTOBER).integral(OCTOBER)
    alone = excess_of(clusters[0], timeline, OCTOBER).integral(OCTOBER)
    rest = sum(cluster.integral(OCTOBER) for cluster in clusters[1:])

    assert alone <= summed <= alone + rest


@settings(max_examples=100, deadline=None)
@given(step=levels, vcpu=st.integers(0, 60), cut=st.integers(OCTOBER.start_ms + 1, OCTOBER.end_ms - 1))
def test_splitting_a_window_telescopes(step: StepFunction, vcpu: int, cut: int) -> None:
    timeline = StepFunction.constant(OCTOBER, vcpu * 1000)
    parts = list(OCTOBER.split([cut]))

    whole = excess_of(step, timeline, OCTOBER).integral(OCTOBER)
    assert whole == sum(excess_of(step, timeline, part).integral(part) for part in parts)


@settings(max_examples=100, deadline=None)
@given(
    minor=st.integers(-(10**9), 10**9),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any),
)
def test_allocation_keeps_the_total(minor: int, weights: list[int]) -> None:
    amount = Money(Decimal(minor).scaleb(-2), USD)
    shares = amount.split(weights)

    assert sum(share.amount for share in shares) == amount.amount
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share.amount * 100 - Decimal(minor) * weight / sum(weights)) < 1


@settings(max_examples=100, deadline=None)
@given(start=st.dates(), days=st.integers(1, 20 * 365))
def test_whole_years_count_one_each(start: object, days: int) -> None:
    from datetime import date, timedelta

    assert isinstance(start, date)
    start = start.replace(year=2000 + start.year % 150)
    end = start + timedelta(days=days)
    years = years_of(start, end)

    assert abs(years - Fraction(days, 365)) <= Fraction(days, 365 * 1000) + Fraction(5, 365)
    assert years_of(start, end + timedelta(days=1)) >= years
    if (start.month, start.day) != (2, 29):
        assert years_of(start, start.replace(year=start.year + 3)) == 3


def test_a_leap_years_term_is_one_year() -> None:
    text = contract_text(term=("2028-01-01", "2029-01-01"), vcpu=10)
    contract: Contract = parse_contract(text, "contract.yaml")
    [charge] = charges_of(contract)

    draft = commitment_draft(_agreed(text), charge)

    assert contract.window.length_ms == 366 * DAY_MS
    assert draft.net == Money(Decimal("9000.00"), USD)


def test_a_growing_commitment_is_charged_for_what_it_adds() -> None:
    more = contract_text(vcpu=10).replace("vcpu: 10}\n", "vcpu: 10}\n  - {start: 2027-04-01, vcpu: 14}\n")
    first, second = charges_of(parse_contract(more, "contract.yaml"))

    drafts = [commitment_draft(_agreed(more), charge) for charge in (first, second)]

    assert drafts[0].net == Money(Decimal("9000.00"), USD)
    # 4 vCPU for the 183 days from 1 April to 1 October: 4 * 900 * 183/365
    assert drafts[1].net == Money(Decimal("1804.93"), USD)
    assert drafts[1].lines[0].derivation.quantity == Fraction(4 * 183, 365)


def test_overage_is_above_the_commitment_of_each_moment() -> None:
    more = contract_text(vcpu=10).replace("vcpu: 10}\n", "vcpu: 10}\n  - {start: 2026-10-16, vcpu: 14}\n")
    usage = RecordedUsage([(OCTOBER.start_ms, 12_000)]).month(ACME, OCTOBER)

    draft = usage_draft(_agreed(more), "2026-10", OCTOBER, MeasuredPeriod(usage, {}))

    assert draft.lines[1].derivation.quantity == 2 * 15 * 24 * 60  # 2 vCPU above, in the first 15 days alone
    assert [day for day, _ in draft.lines[1].derivation.days] == [f"2026-10-{day:02}" for day in range(1, 16)]


def test_a_month_begins_at_the_customers_midnight() -> None:
    text = contract_text(term=("2026-03-01", "2027-03-01"), vcpu=0, more="time_zone: Europe/Berlin\n")
    march = month("2026-03", "Europe/Berlin")
    usage = RecordedUsage([(march.start_ms - DAY_MS, 1000)]).month(ACME, march)

    draft = usage_draft(_agreed(text), "2026-03", march, MeasuredPeriod(usage, {}))

    assert draft.lines[1].derivation.quantity == (31 * 24 - 1) * 60  # the clocks go forward
    assert dict(draft.lines[1].derivation.days)["2026-03-29"] == 23 * 60
    assert Window(march.start_ms, march.end_ms) == draft.period
