"""Tax for each (category, rate), on the sum of its lines, rounded once (EN 16931 BR-CO-17)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from pydantic import Field

from billing.fields import DecimalText, Text
from kernel.money import Currency, Money
from kernel.settings import Section

REVERSE_CHARGE = "Reverse charge: the recipient is liable for the tax."


class TaxRule(Section):
    """One tax on all lines, by UNCL 5305: S standard, Z zero, E exempt, AE reverse charge."""

    name: Text = Field(default="VAT", description="as printed")
    category: Literal["S", "Z", "E", "AE"] = Field(description="UNCL 5305 category")
    rate: DecimalText = Field(description='percent in quotes, such as "19"')


@dataclass(frozen=True, slots=True)
class TaxGroup:
    """The lines of one category and rate, together."""

    name: str
    category: str
    rate: Decimal  # percent
    basis: Money
    amount: Money


def tax_groups(lines: Iterable[tuple[Money, TaxRule | None]], unit: Currency) -> tuple[TaxGroup, ...]:
    """One group for each (category, rate) among the lines, by category and rate. Lines without a rule have none."""
    bases: dict[tuple[str, Decimal], tuple[str, Money]] = {}
    for amount, rule in lines:
        if rule is not None:
            key = (rule.category, rule.rate)
            name, basis = bases.get(key, (rule.name, Money.zero(unit)))
            bases[key] = (name, basis + amount)
    return tuple(
        TaxGroup(name, category, rate, basis, _tax_on(basis, rate))
        for (category, rate), (name, basis) in sorted(bases.items(), key=lambda item: item[0])
    )


def _tax_on(basis: Money, rate: Decimal) -> Money:
    return Money.round_half_up(Fraction(basis.amount) * Fraction(rate) / 100, basis.currency)
