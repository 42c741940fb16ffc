"""Price model: every unit costs the same."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from billing.fields import DecimalText
from billing.pricing.part import Measured, PricedPart, shown
from kernel.money import fraction_of
from kernel.settings import Section


class PerUnit(Section):
    """`unit` for each unit; parts of a unit count as parts."""

    kind: Literal["per-unit"] = Field(description="name of the model")
    unit: DecimalText = Field(description="price of one unit")

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        rate = fraction_of(self.unit)
        return (PricedPart("all units", measured.quantity, measured.unit, rate, f"{shown(rate)} each"),)
