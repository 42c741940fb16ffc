"""Discounts: shares and sums taken off lines before tax, spread so that each line's tax is right.

Figures: lago-api spec/scenarios/taxes_on_invoice_spec.rb (a sum spread by the amounts of the lines).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pydantic import Field, model_validator

from billing.fields import Day, DecimalText, Id, Text
from kernel.money import Money
from kernel.settings import Section
from kernel.wording import refused


class Discount(Section):
    """One of `percent` and `amount`. Applied in the order of the contract, each to what the one before left."""

    discount: Id = Field(description="id of the discount")
    description: Text = Field(description="as printed")
    percent: DecimalText | None = Field(default=None, description="share of each line, in percent")
    amount: DecimalText | None = Field(
        default=None, description="sum off the lines together, at most what they cost"
    )
    charges: tuple[Id, ...] = Field(default=(), max_length=200, description="charges it is for; empty: every line")
    start: Day | None = Field(default=None, description="first day of the periods it is for; none: from the first")
    end: Day | None = Field(default=None, description="first day after them; none: to the last")

    @model_validator(mode="after")
    def _one(self) -> Any:
        if (self.percent is None) == (self.amount is None):
            raise refused("one of percent and amount", "neither" if self.percent is None else "both")
        if self.percent is not None and self.percent > 100:
            raise refused("at most 100", self.percent, ".percent")
        if self.start and self.end and self.end <= self.start:
            raise refused(f"a day after start, {self.start}", self.end, ".end")
        return self


def reductions(discount: Discount, lines: Sequence[Money]) -> list[Money]:
    """What comes off each line: not positive, and never more than the line. Lines that are not positive keep all.

    A percentage is rounded once for each line; a sum is spread by the lines' amounts, largest remainder first, so
    the reductions sum to it exactly.
    """
    unit = lines[0].currency if lines else None
    if unit is None:
        return []
    if discount.percent is not None:
        share = Fraction(discount.percent) / 100
        return [-Money.round_half_up(_positive(line) * share, unit) for line in lines]
    weights = [int(_positive(line) * 10**unit.exponent) for line in lines]
    offered = Money.round_half_up(discount.amount or Decimal(0), unit)
    whole = Money(Decimal(sum(weights)).scaleb(-unit.exponent), unit)
    taken = min(whole, offered)
    if not taken.amount:
        return [Money.zero(unit) for _ in lines]
    return [-share for share in taken.split(weights)]


def _positive(line: Money) -> Fraction:
    return max(Fraction(0), Fraction(line.amount))
