"""Price model: each unit at the price of the tier in which it lies.

Rule and figures: https://docs.stripe.com/subscriptions/pricing-models/tiered-pricing
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

from pydantic import Field

from billing.pricing.part import Measured, PricedPart, shown
from billing.pricing.tiers import Tiers, slices
from kernel.money import fraction_of
from kernel.settings import Section


class Graduated(Section):
    """More is never cheaper. Nothing used reaches no tier and costs nothing."""

    kind: Literal["graduated"] = Field(description="name of the model")
    tiers: Tiers = Field(description="tiers with rising bounds; a quantity on a bound lies in the tier below it")

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        return tuple(self._parts(measured))

    def _parts(self, measured: Measured) -> Iterator[PricedPart]:
        for tier, inside, name in slices(self.tiers, measured.quantity):
            rate = fraction_of(tier.unit)
            yield PricedPart(name, inside, measured.unit, rate, f"{shown(rate)} each of the tier's units")
            if tier.flat:
                yield PricedPart(name, Fraction(1), "tier", fraction_of(tier.flat), "once, as the tier is reached")
