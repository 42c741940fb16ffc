"""Price model: a share of each event's value and a fixed fee, between a least and a most for one event.

Rule: docs.getlago.com, percentage charge model.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, StrictInt, model_validator

from billing.fields import DecimalText
from billing.pricing.part import ZERO, Measured, PricedPart, shown
from kernel.money import fraction_of
from kernel.settings import Section
from kernel.wording import refused


class Percentage(Section):
    """The first `free_events` cost nothing, in the order of `Measured.events`; an event of value 0 is one too."""

    kind: Literal["percentage"] = Field(description="name of the model")
    percent: DecimalText = Field(description='share of the value in percent, such as "1.2"')
    fixed_fee: DecimalText = Field(default=Decimal(0), description="added for each event")
    free_events: StrictInt = Field(default=0, ge=0, le=1_000_000, description="events that cost nothing")
    least: DecimalText | None = Field(default=None, alias="min", description="least amount of one event")
    most: DecimalText | None = Field(default=None, alias="max", description="most amount of one event")

    @model_validator(mode="after")
    def _bounds(self) -> Any:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise refused(f"at least min, {self.least}", self.most, ".max")
        return self

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        """Parts: the share, the fees, and one for each bound that moved an event's amount."""
        share, fee = fraction_of(self.percent) / 100, fraction_of(self.fixed_fee)
        charged = measured.events[self.free_events :]
        free = measured.events[: self.free_events]
        parts = [
            PricedPart("free events", sum(free, ZERO), measured.unit, ZERO, f"the first {self.free_events}")
        ] * bool(free)
        basis = f"{shown(fraction_of(self.percent))} % of the value"
        parts.append(PricedPart("share of the value", sum(charged, ZERO), measured.unit, share, basis))
        if fee:
            parts.append(PricedPart("fixed fee", Fraction(len(charged)), "event", fee, f"{shown(fee)} each"))
        moved: Counter[str] = Counter()
        amounts: dict[str, Fraction] = {"raised": ZERO, "capped": ZERO}
        for value in charged:
            plain = value * share + fee
            if self.least is not None and plain < self.least:
                amounts["raised"] += fraction_of(self.least) - plain
                moved["raised"] += 1
            elif self.most is not None and plain > self.most:
                amounts["capped"] += fraction_of(self.most) - plain
                moved["capped"] += 1
        for name, bound in (("raised", self.least), ("capped", self.most)):
            if moved[name] and bound is not None:
                text = f"{moved[name]} events {name} to {shown(Fraction(bound))} each, in sum"
                parts.append(PricedPart(f"events {name}", Fraction(1), "sum", amounts[name], text))
        return tuple(parts)
