"""Overage bases: each against an oracle that looks at every second, and in their order."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.contract import OverageBasis
from billing.rating.bases import BASIS_TEXT, overage_of
from kernel.errors import InvalidInput
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour

SECOND = 1000
PERIOD = Window(month("2026-10").start_ms + 30 * 60 * SECOND, month("2026-10").start_ms + 150 * 60 * SECOND)
SECONDS = range(PERIOD.start_ms, PERIOD.end_ms, SECOND)
MOMENTS = st.integers(-600, 7200 + 600).map(lambda second: PERIOD.start_ms + second * SECOND)
STEPS = st.lists(st.tuples(MOMENTS, st.integers(0, 50)), max_size=8).map(StepFunction.of)


@settings(max_examples=40)
@given(usage=STEPS, commitment=STEPS)
def test_every_basis_is_what_the_seconds_say(usage: StepFunction, commitment: StepFunction) -> None:
    over = {second: usage.at(second) - commitment.at(second) for second in SECONDS}
    excess = {second: max(0, value) for second, value in over.items()}
    hours: dict[int, list[int]] = {}
    slots: dict[int, list[int]] = {}
    for second in SECONDS:
        hours.setdefault(second // HOUR_MS, []).append(excess[second])
        slots.setdefault((second - PERIOD.start_ms) // 300_000, []).append(over[second])
    means = sorted(max(Fraction(0), Fraction(sum(slot), len(slot))) for slot in slots.values())
    expected = {
        "instant": Fraction(sum(excess.values()) * SECOND),
        "hourly": Fraction(sum(max(hour) * len(hour) for hour in hours.values()) * SECOND),
        "pooled-month": Fraction(max(0, sum(over.values())) * SECOND),
        "peak": Fraction(max(excess.values()) * PERIOD.length_ms),
        "p95": means[23 - 1] * PERIOD.length_ms,  # the 23rd of 24 slots is the nearest rank to 22.8
    }
    found = {basis: overage_of(basis, usage, commitment, PERIOD) for basis in get_args(OverageBasis)}
    assert found == expected
    assert found["pooled-month"] <= found["instant"] <= found["hourly"] <= found["peak"]
    assert found["p95"] <= found["peak"]


@pytest.mark.parametrize("basis", get_args(OverageBasis))
def test_a_constant_excess_is_the_same_in_every_basis(basis: OverageBasis) -> None:
    usage, commitment = (StepFunction.constant(PERIOD, level) for level in (26, 16))
    assert overage_of(basis, usage, commitment, PERIOD) == 10 * PERIOD.length_ms


@pytest.mark.parametrize(
    ("basis", "minutes"),
    [("instant", 600), ("hourly", 600), ("pooled-month", 600), ("peak", 10 * 31 * 24 * 60), ("p95", 0)],
)
def test_the_invoice_says_its_basis(small_office: Office, basis: str, minutes: int) -> None:
    october = month("2026-10")
    small_office.book.add_contract(contract_text(more=f"overage_basis: {basis}\n"), "c.yaml", "test")
    small_office.usage.levels = ten_vcpu_above_for_an_hour(october)
    line = small_office.run.draft(ACME, "2026-10").document()["lines"][1]
    assert line["derivation"]["quantity"]["exact"] == str(minutes)
    facts = {fact["name"]: fact["value"] for fact in line["derivation"]["facts"]}
    assert facts["overage_basis"] == BASIS_TEXT[basis]


def test_an_unknown_basis_is_refused(small_office: Office) -> None:
    with pytest.raises(InvalidInput, match="'instant', 'hourly', 'pooled-month', 'peak' or 'p95'"):
        small_office.book.add_contract(contract_text(more="overage_basis: daily\n"), "c.yaml", "test")
