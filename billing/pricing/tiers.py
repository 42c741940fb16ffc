"""Tiers: bounds that rise, the last without one. A quantity on a bound belongs to the tier that it closes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from billing.fields import DecimalText
from billing.pricing.part import shown
from kernel.money import fraction_of
from kernel.settings import Section
from kernel.wording import refused

MAX_TIERS = 200


class Tier(Section):
    """What holds above the bound of the tier before it, up to and with `up_to`."""

    up_to: DecimalText | None = Field(description="last quantity of the tier, in quotes; null for the last tier")
    unit: DecimalText = Field(default=Decimal(0), description="price of one unit")
    flat: DecimalText = Field(default=Decimal(0), description="charged once when the tier is reached")


class FlatTier(Section):
    """A tier that has one price, whatever is used in it."""

    up_to: DecimalText | None = Field(description="last quantity of the tier, in quotes; null for the last tier")
    flat: DecimalText = Field(description="price of the tier")


class BlockTier(Section):
    """A tier whose units are sold in whole blocks."""

    up_to: DecimalText | None = Field(description="last quantity of the tier, in quotes; null for the last tier")
    size: DecimalText = Field(description="units in one block")
    price: DecimalText = Field(description="price of one block, begun or full")


AnyTier = Tier | FlatTier | BlockTier
T = TypeVar("T", Tier, FlatTier, BlockTier)


def _check_order(tiers: Sequence[AnyTier]) -> None:
    before = Decimal(0)
    for number, tier in enumerate(tiers):
        is_last, at = number == len(tiers) - 1, f"[{number}].up_to"
        if is_last and tier.up_to is not None:
            raise refused("null in the last tier, or what is above would have no price", tier.up_to, at)
        if not is_last and tier.up_to is None:
            raise refused("a bound: only the last tier has null", "null", at)
        if tier.up_to is not None and tier.up_to <= before:
            allowed = f"more than {before}, the bound before, so that tiers neither overlap nor are empty"
            raise refused(allowed, tier.up_to, at)
        before = tier.up_to or before


def _ordered(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    _check_order(tiers)
    return tiers


def _ordered_flat(tiers: tuple[FlatTier, ...]) -> tuple[FlatTier, ...]:
    _check_order(tiers)
    return tiers


def _ordered_blocks(tiers: tuple[BlockTier, ...]) -> tuple[BlockTier, ...]:
    _check_order(tiers)
    for number, tier in enumerate(tiers):
        if tier.size == 0:
            raise refused("a block of more than 0 units", "0", f"[{number}].size")
    return tiers


Tiers = Annotated[tuple[Tier, ...], Field(min_length=1, max_length=MAX_TIERS), AfterValidator(_ordered)]
FlatTiers = Annotated[
    tuple[FlatTier, ...], Field(min_length=1, max_length=MAX_TIERS), AfterValidator(_ordered_flat)
]
BlockTiers = Annotated[
    tuple[BlockTier, ...], Field(min_length=1, max_length=MAX_TIERS), AfterValidator(_ordered_blocks)
]


def slices(tiers: Sequence[T], quantity: Fraction) -> Iterator[tuple[T, Fraction, str]]:
    """Each tier that `quantity` reaches, with the part of it that lies in the tier, and its name in words."""
    floor = Fraction(0)
    for tier in tiers:
        if quantity <= floor:
            return
        top = quantity if tier.up_to is None else min(quantity, fraction_of(tier.up_to))
        yield tier, top - floor, name_of(tier, floor)
        floor = top


def reached(tiers: Sequence[T], quantity: Fraction) -> tuple[T, str] | None:
    """The tier in which `quantity` ends, with its name in words; None for nothing."""
    found = None
    for tier, _, name in slices(tiers, quantity):
        found = tier, name
    return found


def name_of(tier: AnyTier, floor: Fraction) -> str:
    """`above 5, up to 10`."""
    if tier.up_to is None:
        return f"above {shown(floor)}" if floor else "any quantity"
    top = shown(fraction_of(tier.up_to))
    return f"above {shown(floor)}, up to {top}" if floor else f"up to {top}"
