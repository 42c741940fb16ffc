"""Prepaid credits: grants that are drawn on after tax, in a stated order, until they expire.

Order: lower `priority` first, then what expires first, then the older grant, then its id (as openmeter's engine).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kernel.money import Money


@dataclass(frozen=True, slots=True)
class Grant:
    """Money paid in advance. Usable in `[granted_ms, expires_ms)`; `expires_ms` None: for ever."""

    grant: str
    granted_ms: int
    expires_ms: int | None
    priority: int
    balance: Money

    def usable_at(self, moment_ms: int) -> bool:
        return self.granted_ms <= moment_ms and (self.expires_ms is None or moment_ms < self.expires_ms)


@dataclass(frozen=True, slots=True)
class Draw:
    """What an invoice took from a grant."""

    grant: str
    amount: Money


def draw(grants: Iterable[Grant], due: Money, moment_ms: int) -> tuple[tuple[Draw, ...], Money]:
    """What is taken for `due` from the grants usable at that moment, and what remains to be paid.

    A credit pays invoices, it is not revenue: nothing is drawn for an amount that is not positive.
    """
    draws = []
    usable = [grant for grant in grants if grant.usable_at(moment_ms)]
    for grant in sorted(usable, key=_order):
        taken = min(due, grant.balance)
        if Money.zero(due.currency) < taken:
            draws.append(Draw(grant.grant, taken))
            due -= taken
    return tuple(draws), due


def after(grants: Sequence[Grant], draws: Iterable[Draw]) -> tuple[Grant, ...]:
    """The grants with what is left of them. Raises ValueError when more was drawn than was there."""
    taken: Mapping[str, Money] = {one.grant: one.amount for one in draws}
    left = []
    for grant in grants:
        balance = grant.balance - taken[grant.grant] if grant.grant in taken else grant.balance
        if balance < Money.zero(balance.currency):
            raise ValueError(f"grant {grant.grant} is overdrawn by {-balance}")
        left.append(replace(grant, balance=balance))
    return tuple(left)


def expired(grants: Iterable[Grant], moment_ms: int) -> tuple[Draw, ...]:
    """What lapses: the balances of grants that can't be used any more."""
    return tuple(
        Draw(grant.grant, grant.balance)
        for grant in grants
        if grant.expires_ms is not None and grant.expires_ms <= moment_ms and grant.balance.amount
    )


def _order(grant: Grant) -> tuple[int, bool, int, int, str]:
    return grant.priority, grant.expires_ms is None, grant.expires_ms or 0, grant.granted_ms, grant.grant
