"""Capacity true-up: what was used above the licence at its highest is bought for the rest of the term.

Rules: GitLab's quarterly reconciliation (the highest of the quarter, for the quarters that remain) against the
annual true-up (the highest of the year, for the whole year). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from billing.pricing.part import PricedPart, shown

QUARTERS = 4


@dataclass(frozen=True, slots=True)
class CapacityTrueUp:
    """`licensed` after the true-up includes what it bought: the next one starts from there."""

    part: PricedPart
    licensed: Fraction


def quarterly_true_up(
    peaks: tuple[Fraction, ...], licensed: Fraction, price_per_year: Fraction
) -> tuple[CapacityTrueUp, ...]:
    """One for each quarter that is over, in order. `peaks` holds the highest use of each, in units of capacity."""
    found = []
    for index, peak in enumerate(peaks):
        added = max(Fraction(0), peak - licensed)
        left = Fraction(QUARTERS - index % QUARTERS - 1, QUARTERS)
        basis = f"{shown(price_per_year)} a year, for {QUARTERS - index % QUARTERS - 1} of 4 quarters"
        licensed += added
        part = PricedPart(f"quarter {index + 1}", added, "unit", price_per_year * left, basis)
        found.append(CapacityTrueUp(part, licensed))
    return tuple(found)


def annual_true_up(peak: Fraction, licensed: Fraction, price_per_year: Fraction) -> CapacityTrueUp:
    """The highest use of the year above the licence, for the whole year."""
    added = max(Fraction(0), peak - licensed)
    part = PricedPart("year", added, "unit", price_per_year, f"{shown(price_per_year)} a year")
    return CapacityTrueUp(part, licensed + added)
