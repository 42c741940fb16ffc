"""Least and most spend of a period, and spend commitments with true-up: lines that bring a sum to a bound.

Rules: docs.getlago.com, spending minimum and minimum commitment; openmeter billing/rating, minimum and maximum
spend. Both work on rounded lines, so that an invoice with a bound sums to exactly that bound.
"""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from billing.fields import DecimalText
from kernel.money import Money
from kernel.settings import Section
from kernel.wording import refused

Every = Literal["month", "quarter", "year"]
MONTHS = {"month": 1, "quarter": 3, "year": 12}


class SpendBounds(Section):
    """Of what charges cost together in a billed period. A part of a period has that part of the bounds, by days."""

    least: DecimalText | None = Field(default=None, alias="min", description="at least this, or a line fills it up")
    most: DecimalText | None = Field(default=None, alias="max", description="at most this, or a line takes it down")

    @model_validator(mode="after")
    def _bounds(self) -> SpendBounds:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise refused(f"at least min, {self.least}", self.most, ".max")
        return self


class SpendCommitment(Section):
    """A sum paid in each period of the term, used or not: the rest is trued up with the period's last month."""

    amount: DecimalText = Field(description="committed spend of one period, before tax")
    every: Every = Field(description="length of the period, counted from the first day of the term")


def minimum_line(spent: Money, least: Fraction, share: Fraction = Fraction(1)) -> Money:
    """What fills `spent` up to the least spend; zero when it is reached.

    `share` is the billed part of the period. The bound is rounded, not the difference: 823,561 cents for 334/365 of
    (1,000,000 - 100,000), where rounding the difference would give 823,562.
    """
    bound = Money.round_half_up(least * share, spent.currency)
    return bound - spent if spent < bound else Money.zero(spent.currency)


def maximum_line(spent: Money, most: Fraction, share: Fraction = Fraction(1)) -> Money:
    """What takes `spent` down to the most spend: zero or negative."""
    bound = Money.round_half_up(most * share, spent.currency)
    return bound - spent if bound < spent else Money.zero(spent.currency)


def share_of_days(start: date, end: date, period_start: date, period_end: date) -> Fraction:
    """The part of `[period_start, period_end)` that `[start, end)` covers, by days."""
    days = (min(end, period_end) - max(start, period_start)).days
    return Fraction(max(0, days), (period_end - period_start).days)


def commitment_period(commitment: SpendCommitment, term_start: date, day: date) -> tuple[date, date]:
    """First day, and first day after, of the commitment's period that holds `day`."""
    step = MONTHS[commitment.every]
    elapsed = (day.year - term_start.year) * 12 + day.month - term_start.month
    index = elapsed // step
    if months_after(term_start, index * step) > day:
        index -= 1
    return months_after(term_start, index * step), months_after(term_start, (index + 1) * step)


def months_after(start: date, months: int) -> date:
    """The same day of a later month, or its last day where it has no such day."""
    year, month = start.year + (start.month - 1 + months) // 12, (start.month - 1 + months) % 12 + 1
    following = date(year + month // 12, month % 12 + 1, 1)
    last = (following - date(year, month, 1)).days
    return date(year, month, min(start.day, last))
