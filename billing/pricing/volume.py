"""Price model: all units at the price of the one tier in which the quantity ends.

Rule and figures: https://docs.stripe.com/subscriptions/pricing-models/tiered-pricing. More usage can cost less at
a bound: a correction may then be a credit although usage rose, and is not clamped.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from billing.pricing.part import Measured, PricedPart, shown
from billing.pricing.tiers import Tiers, reached
from kernel.money import fraction_of
from kernel.settings import Section


class Volume(Section):
    """One tier for all. Nothing used reaches no tier and costs nothing."""

    kind: Literal["volume"] = Field(description="name of the model")
    tiers: Tiers = Field(description="tiers with rising bounds; a quantity on a bound lies in the tier below it")

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        found = reached(self.tiers, measured.quantity)
        if found is None:
            return ()
        tier, name = found
        rate, flat = fraction_of(tier.unit), fraction_of(tier.flat)
        parts = [PricedPart(name, measured.quantity, measured.unit, rate, f"{shown(rate)} each of all units")]
        if flat:
            parts.append(PricedPart(name, Fraction(1), "tier", flat, "once, for the tier reached"))
        return tuple(parts)
