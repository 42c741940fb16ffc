"""Price models: block tiers. Units are sold in whole blocks, whose size and price depend on the tier.

The two modes of Kill Bill's consumable in-arrear usage (docs.killbill.io, catalog): all tiers, or the top alone.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from billing.pricing.part import Measured, PricedPart, ceiling, shown
from billing.pricing.tiers import BlockTier, BlockTiers, reached, slices
from kernel.money import fraction_of
from kernel.settings import Section


class BlockTiersPrice(Section):
    """`all-tiers`: each tier's own units in its own blocks. `top-tier`: all units in blocks of the tier reached."""

    kind: Literal["block-tiers"] = Field(description="name of the model")
    mode: Literal["all-tiers", "top-tier"] = Field(description="which tiers count")
    tiers: BlockTiers = Field(description="tiers with rising bounds, each with its block")

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        if self.mode == "all-tiers":
            found = slices(self.tiers, measured.quantity)
            return tuple(_blocks(tier, inside, name, measured.unit) for tier, inside, name in found)
        top = reached(self.tiers, measured.quantity)
        return (_blocks(top[0], measured.quantity, top[1], measured.unit),) if top else ()


def _blocks(tier: BlockTier, quantity: Fraction, name: str, unit: str) -> PricedPart:
    blocks, rate = ceiling(quantity / fraction_of(tier.size)), fraction_of(tier.price)
    basis = f"{shown(rate)} for each {shown(fraction_of(tier.size))} {unit}, begun or full"
    return PricedPart(name, Fraction(blocks), "block", rate, basis)
