"""Price model: a quantity committed for each hour; what is above costs a factor more, what is unused is paid too.

Rule: docs.flexprice.io, windowed commitments. Total = used within + overage + true-up.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, StrictBool, field_validator

from billing.fields import DecimalText
from billing.pricing.part import ZERO, Measured, PricedPart, shown
from kernel.money import fraction_of
from kernel.settings import Section
from kernel.wording import refused


class WindowedCommitment(Section):
    """Looks at `Measured.windows`, one for each hour of the period, and not at their sum."""

    kind: Literal["windowed-commitment"] = Field(description="name of the model")
    committed: DecimalText = Field(description="units committed for each hour")
    unit: DecimalText = Field(description="price of one unit within the commitment")
    overage_factor: DecimalText = Field(
        default=Decimal(1), description="units above cost this many times `unit`; from 1"
    )
    true_up: StrictBool = Field(
        default=True, description="true: what an hour leaves unused of the commitment is paid"
    )

    @field_validator("overage_factor")
    @classmethod
    def _not_cheaper(cls, factor: Decimal) -> Decimal:
        if factor < 1:
            raise refused("a factor from 1: above the commitment nothing is cheaper")
        return factor

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        if sum(measured.windows, ZERO) != measured.quantity:
            raise ValueError("the windows of a windowed commitment must sum to the quantity")
        committed, rate, factor = (
            fraction_of(self.committed),
            fraction_of(self.unit),
            fraction_of(self.overage_factor),
        )
        within = sum((min(used, committed) for used in measured.windows), ZERO)
        above = measured.quantity - within
        unused = committed * len(measured.windows) - within
        parts = [
            PricedPart("within the commitment", within, measured.unit, rate, f"{shown(rate)} each"),
            PricedPart(
                "above the commitment",
                above,
                measured.unit,
                rate * factor,
                f"{shown(rate)} times {shown(factor)} each",
            ),
        ]
        if self.true_up:
            parts.append(
                PricedPart("committed and unused", unused, measured.unit, rate, f"{shown(rate)} each, true-up")
            )
        return tuple(parts)
