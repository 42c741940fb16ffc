"""Price model: whole packages; one begun is one paid. The first units may be free.

Figures: lago-api spec/services/charge_models/package_service_spec.rb, openmeter billing/rating package_test.go.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Literal

from pydantic import Field, field_validator

from billing.fields import DecimalText
from billing.pricing.part import ZERO, Measured, PricedPart, ceiling, shown
from kernel.money import fraction_of
from kernel.settings import Section
from kernel.wording import refused


class Package(Section):
    """Usage of a later correction is priced as the whole and what was billed subtracted, so a package begun before
    is not paid twice.
    """

    kind: Literal["package"] = Field(description="name of the model")
    size: DecimalText = Field(description="units in one package, more than 0")
    price_each: DecimalText = Field(alias="price", description="price of one package")
    free_units: DecimalText = Field(
        default=Decimal(0), description="units that cost nothing, before the first package"
    )

    @field_validator("size")
    @classmethod
    def _some(cls, size: Decimal) -> Decimal:
        if size == 0:
            raise refused("a package of more than 0 units")
        return size

    def price(self, measured: Measured) -> tuple[PricedPart, ...]:
        free = min(measured.quantity, fraction_of(self.free_units))
        packages = ceiling((measured.quantity - free) / fraction_of(self.size))
        size, rate = shown(fraction_of(self.size)), fraction_of(self.price_each)
        parts = []
        if free:
            parts.append(PricedPart("free units", free, measured.unit, ZERO, "free"))
        basis = f"{shown(rate)} for each {size} {measured.unit}, begun or full"
        return (*parts, PricedPart("packages", Fraction(packages), "package", rate, basis))
