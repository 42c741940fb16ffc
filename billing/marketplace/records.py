"""Whole numbers for each hour, as AWS Marketplace takes them. Pure.

An hour that was sent can't be sent again with another quantity, quantities are integers, and six hours after it
nothing of it is taken (API_marketplace-metering_UsageRecord, API_marketplace-metering_BatchMeterUsage). So an hour
has the floor of its usage and of the fraction that earlier hours of the same invoice line left. A fraction is never
carried over the edge of a line: what is below one unit there is billed by the invoice, as is what became known
later, or too late. AWS de-duplicates by the hour, so an hour in which a period ends (zones such as +05:30) is one
record, of two pieces with a floor each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from billing.marketplace.terms import SENDABLE_HOURS
from billing.marketplace.told import Hour, Piece
from kernel.errors import InvalidInput
from kernel.window import HOUR_MS, Window

BATCH = 25
LATEST_MS = SENDABLE_HOURS * HOUR_MS
MARGIN_MS = 5 * 60_000  # for the way there and clocks that differ
MOST = 2_147_483_647


@dataclass(frozen=True, slots=True)
class PieceUsage:
    """Exact usage of a sealed hour, or of the part of it that one line of an invoice bills."""

    contract: str
    charge: str
    month: str  # of the invoice, YYYY-MM
    line: Window  # of that line
    window: Window  # of the piece
    exact: Fraction  # in the unit of dimension and meter


@dataclass(frozen=True, slots=True)
class HourUsage:
    """All of an hour, by pieces in their order."""

    hour_ms: int
    pieces: tuple[PieceUsage, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send now, and what can't be sent any more and goes to the invoice."""

    hours: tuple[Hour, ...]
    late: tuple[HourUsage, ...]


def plan_hours(hours: Iterable[HourUsage], before: Iterable[Hour], now_ms: int) -> Plan:
    """Records for the hours that were not planned before, oldest first. Raises InvalidInput.

    `before` is what was planned of the lines that `hours` are of, sent or not: it is never planned anew.
    """
    known = {hour.hour_ms: hour for hour in before}
    told = [piece for hour in known.values() for piece in hour.pieces]
    planned: list[Hour] = []
    late: list[HourUsage] = []
    for hour in sorted(hours, key=lambda each: each.hour_ms):
        if hour.hour_ms in known:
            continue
        if is_late(hour.hour_ms, now_ms):
            late.append(hour)
            continue
        pieces = tuple(_whole(piece, told) for piece in hour.pieces)
        made = known[hour.hour_ms] = Hour(hour.hour_ms, pieces)
        if made.quantity > MOST:
            raise InvalidInput.single("marketplace", "quantity of an hour", str(made.quantity), f"at most {MOST}")
        planned.append(made)
        told += pieces
    return Plan(tuple(planned), tuple(late))


def _whole(usage: PieceUsage, told: Iterable[Piece]) -> Piece:
    if usage.exact < 0:
        raise InvalidInput.single("marketplace", "quantity", str(usage.exact), "not below zero")
    # Below zero where an amendment cut a line anew, within units that are told already.
    quantity = max(0, floor(usage.exact + carried(told, usage)))
    return Piece(usage.contract, usage.charge, usage.month, usage.window, usage.exact, quantity)


def carried(told: Iterable[Piece], usage: PieceUsage) -> Fraction:
    """What earlier hours of a line left, below one unit."""
    mine = (piece for piece in told if (piece.contract, piece.charge) == (usage.contract, usage.charge))
    return sum((one.exact - one.quantity for one in mine if one.window.start_ms in usage.line), Fraction(0))


def is_late(hour_ms: int, now_ms: int) -> bool:
    """Whether AWS may refuse the hour by the time that it arrives."""
    return now_ms - hour_ms >= LATEST_MS - MARGIN_MS


def batches(hours: Sequence[Hour]) -> Iterator[Sequence[Hour]]:
    """At most 25 for each call."""
    for start in range(0, len(hours), BATCH):
        yield hours[start : start + BATCH]
