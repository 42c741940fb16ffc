"""What a customer owes, by how long it is overdue. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from billing.life import State
from billing.standing import Standing
from kernel.money import Currency, Money, total

AGES = (0, 30, 60, 90)  # days overdue: current, 1-30, 31-60, 61-90, over 90
AGE_NAMES = ("current", *(f"{low + 1}-{high}" for low, high in pairwise(AGES)), f"over {AGES[-1]}")


@dataclass(frozen=True, slots=True)
class Ageing:
    """Open amounts in one currency by how long they are overdue, as `AGES` cuts them."""

    buckets: tuple[Money, ...]

    @property
    def total(self) -> Money:
        return total(self.buckets, self.buckets[0].currency)


def ageing(documents: Iterable[Standing], on: date) -> list[Ageing]:
    """What is open on a day, an `Ageing` for each currency. What is to the customer's credit counts as current."""
    buckets: dict[Currency, list[Money]] = {}
    for one in documents:
        if one.state is State.VOID or one.due is None or not one.open.amount:
            continue
        unit = one.open.currency
        sums = buckets.setdefault(unit, [Money.zero(unit)] * (len(AGES) + 1))
        overdue = (on - one.due).days if Money.zero(unit) < one.open else 0
        sums[sum(overdue > limit for limit in AGES)] += one.open
    return [Ageing(tuple(buckets[unit])) for unit in sorted(buckets, key=lambda unit: unit.code)]
