"""Threshold invoices: a running month is billed when it has cost enough, and credited on its final invoice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.corrections import THRESHOLD_CREDIT
from billing.rating.fact import text_fact
from billing.rating.line import Line, Priced, Rate
from billing.tax import TaxRule
from kernel.money import Currency, Money, total
from kernel.window import Window

THRESHOLD = "threshold"


def threshold_lines(
    lines: Iterable[Line], billed: Iterable[Mapping[str, Any]], threshold: Decimal, period: Window, unit: Currency
) -> tuple[Line, ...]:
    """A line for each tax of what `lines`, the month so far, cost above the threshold invoices `billed` before.

    Empty while the difference is below the threshold.
    """
    sums: dict[TaxRule | None, Money] = {}
    for line in lines:
        sums[line.tax] = sums.get(line.tax, Money.zero(unit)) + line.amount
    for credit in credit_lines(billed, period, unit):
        sums[credit.tax] = sums.get(credit.tax, Money.zero(unit)) + credit.amount
    due = total(sums.values(), unit)
    if due.amount < threshold:
        return ()
    made = (_line(THRESHOLD, "Usage so far in the period", period, amount, tax) for tax, amount in sums.items())
    return tuple(line for line in made if line.amount.amount)


def credit_lines(billed: Iterable[Mapping[str, Any]], period: Window, unit: Currency) -> tuple[Line, ...]:
    """What the final invoice of the period gives back: every line of the threshold invoices, negative."""
    given_back = []
    for document in billed:
        names = {(tax["category"], tax["rate"]): tax["name"] for tax in document["taxes"]}
        for line in document["lines"]:
            rule = line["tax"]
            if rule is not None:
                rule = TaxRule.model_validate({"name": names[rule["category"], rule["rate"]], **rule})
            text = f"Billed before by {document['number']}"
            amount = -Money(Decimal(line["amount"]), unit)
            given_back.append(_line(f"{THRESHOLD_CREDIT}:{document['number']}", text, period, amount, rule))
    return tuple(given_back)


def _line(kind: str, description: str, period: Window, amount: Money, tax: TaxRule | None) -> Line:
    rate = Rate(Fraction(amount.amount), "computed from the lines of the period")
    priced = Priced(Fraction(1), "sum", rate, (text_fact("of", "Of", description),))
    exact, derivation = priced.amount(amount.currency)
    return Line(kind, description, period, exact, derivation, tax)
