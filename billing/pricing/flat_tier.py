"""Price model: one price for the tier in which the quantity ends, whatever is used inside it."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from billing.pricing.part import Measured, PricedPart
from billing.pricing.tiers import FlatTiers, reached
from kernel.money import fraction_of
from kernel.settings import Section


class FlatPerTier(Section):
    """Steps. Nothing used reaches no tier and costs nothing."""

    kind: Literal["flat-per-tier"] = Field(description="name of the model")
    tiers: FlatTiers = Field(description="tiers with rising bounds, each with its price")

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        found = reached(self.tiers, measured.quantity)
        if found is None:
            return ()
        tier, name = found
        return (PricedPart(name, Fraction(1), "tier", fraction_of(tier.flat), "one price for the tier reached"),)
