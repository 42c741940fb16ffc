"""What a contract charges for meters beside its committed capacity: a meter, a price model, and from when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import prod
from typing import Literal

from pydantic import Field

from billing.fields import Day, DecimalText, Id, Text, Version, midnight_ms
from billing.marketplace.terms import Subscription
from billing.pricing import PriceModel
from billing.tax import TaxRule
from billing.terms import MAX_UPLIFT
from kernel.errors import Finding
from kernel.settings import Section
from kernel.window import Window

MAX_STEPS = 100
MAX_UPLIFTS = 50  # renewals


class ModelReference(Section):
    """A price model of a stored price book, in the contract's currency, taken on the day its step begins."""

    book: Id = Field(description="id of the price book")
    version: Version = Field(description="its version")
    item: Id = Field(description="the item in it")


class ChargeStep(Section):
    """A price from `start` until the next step: a ramp is several of them. One of `model` and `price`."""

    start: Day = Field(description="first day of this price; the first step begins with the term or before")
    model: PriceModel | None = Field(default=None, description="the price model, written out")
    price: ModelReference | None = Field(default=None, description="the price model, from a price book")
    uplifts: tuple[DecimalText, ...] = Field(
        default=(), max_length=MAX_UPLIFTS, description="per cent that the price rose by at each renewal, in order"
    )


class Charge(Section):
    """One charge: each billed period gets a line for it, or one for each cluster or project."""

    charge: Id = Field(description="id of the charge, once in a contract")
    description: Text = Field(description="as printed")
    meter: Id = Field(description="id of the meter in the catalogue")
    group_by: Literal["cluster", "project"] | None = Field(
        default=None, description="a line for each, priced apart; none: one line, priced together"
    )
    steps: tuple[ChargeStep, ...] = Field(min_length=1, max_length=MAX_STEPS, description="prices by date")
    tax: TaxRule | None = Field(default=None, description="none: the contract's tax")
    marketplace: Subscription | None = Field(
        default=None, description="AWS Marketplace bills what it takes of it, and the invoice the rest; none: all"
    )


@dataclass(frozen=True, slots=True)
class AgreedStep:
    """A step with its model, wherever that stands."""

    start: date
    model: PriceModel
    uplifts: tuple[Decimal, ...] = ()  # per cent, each of the price as it was before


AgreedCharges = Mapping[str, tuple[AgreedStep, ...]]  # by charge, steps by date


@dataclass(frozen=True, slots=True)
class ChargePiece:
    """A part of a billed period in which a charge has one price."""

    charge: Charge
    window: Window
    model: PriceModel
    uplifts: tuple[Decimal, ...] = ()

    @property
    def factor(self) -> Fraction:
        """What renewals have made of each price of the model, exact."""
        return prod((1 + Fraction(one) / 100 for one in self.uplifts), start=Fraction(1))


def pieces(charge: Charge, steps: tuple[AgreedStep, ...], period: Window, zone: str) -> Iterator[ChargePiece]:
    """The parts of `period`, cut where the price changes; none before the first step."""
    starts = [midnight_ms(step.start, zone) for step in steps]
    for step, start_ms, end_ms in zip(steps, starts, [*starts[1:], period.end_ms], strict=True):
        window = Window(start_ms, end_ms).intersection(period) if start_ms < end_ms else None
        if window:
            yield ChargePiece(charge, window, step.model, step.uplifts)


def charge_findings(charges: tuple[Charge, ...], term_start: date, source: str) -> Iterator[Finding]:
    """What is wrong with the charges of a contract, each by itself and together."""
    seen: dict[str, int] = {}
    for index, charge in enumerate(charges):
        where = f"charges[{index}]"
        if seen.setdefault(charge.charge, index) != index:
            yield Finding(source, f"{where}.charge", f"{charge.charge} again", "each id once")
        first = charge.steps[0].start
        if first > term_start:
            allowed = f"at latest {term_start}, the first day of the term: usage before it would have no price"
            yield Finding(source, f"{where}.steps[0].start", str(first), allowed)
        for number, (before, after) in enumerate(pairwise(charge.steps), start=1):
            if after.start <= before.start:
                yield Finding(source, f"{where}.steps[{number}].start", str(after.start), f"after {before.start}")
        for number, step in enumerate(charge.steps):
            if (step.model is None) == (step.price is None):
                found = "neither" if step.model is None else "both"
                yield Finding(source, f"{where}.steps[{number}]", found, "one of model and price")
            for uplift in step.uplifts:
                if not 0 <= uplift <= MAX_UPLIFT:
                    field = f"{where}.steps[{number}].uplifts"
                    yield Finding(source, field, str(uplift), f"from 0 to {MAX_UPLIFT}")
