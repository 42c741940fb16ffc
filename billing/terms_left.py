"""How long contracts still run, through those that follow without a gap. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billing.contract import Contract
from kernel.window import DAY_MS

TOLD_MS = 30 * DAY_MS  # for so long after its end a contract is still told of


@dataclass(frozen=True, slots=True)
class TermLeft:
    """`contract`: the first of those that follow each other. `remaining_ms`: negative since the last one ended."""

    contract: str
    remaining_ms: int


def terms_left(contracts: Sequence[Contract], now_ms: int) -> list[TermLeft]:
    """One for each row of an organization's contracts, by id of the first; none for what ended 30 days ago.

    A contract follows another if it says so (`renews`), or if it takes over about the same (vCPU or charges alone)
    before or when the other ends, and ends later.
    """
    following: dict[str, Contract] = {}
    for contract in sorted(contracts, key=lambda one: (one.window.start_ms, one.contract)):
        for before in contracts:
            if before.contract not in following and _follows(contract, before):
                following[before.contract] = contract
                break
    later = {contract.contract for contract in following.values()}
    found = []
    for first in sorted(contracts, key=lambda one: one.contract):
        if first.contract in later:
            continue
        last = first
        while last.contract in following:
            last = following[last.contract]
        remaining_ms = last.window.end_ms - now_ms
        if remaining_ms > -TOLD_MS:
            found.append(TermLeft(first.contract, remaining_ms))
    return found


def _follows(contract: Contract, before: Contract) -> bool:
    """Each ends after the one before, so that rows of them have an end."""
    if contract.window.end_ms <= before.window.end_ms or contract.window.start_ms <= before.window.start_ms:
        return False
    if contract.renews is not None:
        return contract.renews == before.contract
    takes_over = contract.window.start_ms <= before.window.end_ms
    return takes_over and contract.bills_capacity == before.bills_capacity
