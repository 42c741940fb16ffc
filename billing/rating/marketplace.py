"""Price model: a charge that AWS Marketplace bills. What it took is stated, the rest is billed at the same price.

AWS Marketplace sold what it took, in its own name and with its own tax: an invoice neither bills that again nor
gives it back. Where AWS took more than was used the rest is nothing, and the line says what AWS has to give back.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from billing.charges import ChargePiece
from billing.marketplace.told import Told
from billing.pricing import PricedPart
from billing.pricing.part import shown
from billing.rating.fact import Fact, text_fact
from billing.rating.line import Derivation, Line, RatingInput
from kernel.money import Money

MARKETPLACE = "marketplace"
_NOTHING = Fraction(0)


def taken_line(rated: RatingInput, piece: ChargePiece, unit: str, used: Fraction) -> Line:
    """What AWS Marketplace billed of `used`, as information."""
    told = told_of(rated, piece)
    return Line(
        kind=f"{MARKETPLACE}:{piece.charge.charge}",
        description=f"Billed by AWS Marketplace: {piece.charge.description}",
        period=piece.window,
        amount=Money.zero(rated.currency),
        derivation=Derivation(
            Fraction(told.taken), unit, None, _NOTHING, _NOTHING, facts=tuple(_facts(told, unit))
        ),
        tax=piece.charge.tax or rated.contract.tax,
        informational=True,
        notes=tuple(_notes(told, unit, used)),
    )


def remaining_parts(rated: RatingInput, piece: ChargePiece, used: PricedPart) -> tuple[PricedPart, ...]:
    """What was used, less what AWS Marketplace took of it: never below zero."""
    taken = min(Fraction(told_of(rated, piece).taken), used.quantity)
    less = PricedPart("billed by AWS Marketplace", -taken, used.unit, used.rate, used.basis)
    return (used, less) if taken else (used,)


def told_of(rated: RatingInput, piece: ChargePiece) -> Told:
    """What was told of the charge in this part of the period."""
    return rated.marketplace[piece.charge.charge, piece.window]


def _facts(told: Told, unit: str) -> Iterator[Fact]:
    yield text_fact("product", "Product", told.subscription.product)
    yield text_fact("account", "AWS account", told.subscription.account)
    yield text_fact("dimension", "Dimension", told.subscription.dimension)
    yield Fact("told", "Told to AWS Marketplace", str(told.told), f"{told.told} {unit}")
    confirmed = told.taken - told.unknown
    yield Fact("confirmed", "Confirmed by it", str(confirmed), f"{confirmed} {unit}")
    if told.unknown_hours:
        yield Fact("unknown", "Not known, counted as billed", str(told.unknown), f"{told.unknown} {unit}")


def _notes(told: Told, unit: str, used: Fraction) -> Iterator[str]:
    if told.unknown_hours:
        hours = f"{told.unknown_hours} hour{'s' if told.unknown_hours > 1 else ''}"
        yield (
            f"What AWS Marketplace took of {hours} is not known yet: until it is, {told.unknown} {unit} count as "
            "billed by it and are not billed here."
        )
    if told.taken > used:
        yield (
            f"AWS Marketplace has billed {shown(told.taken - used)} {unit} more than was used: it gives that back, "
            "and no invoice does."
        )
