"""What a contract's gap policy adds to the integral of a gauge, by quarters of hours. Pure, exact integers.

The rules are those of `metering.usage.filling`, of a row instead of a component: a gap is a run of quarters each
with missing time; holding the last level is what the closer computed of each; an estimate is the mean over the
observed time of the two neighbouring hours, times the missing time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping

from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.meters.hours import Piece
from metering.usage.model import GapRule


def added_by_quarter(quarters: Mapping[int, Piece], window: Window, rule: GapRule) -> dict[int, int]:
    """What to add to each quarter of the window that is filled, zeros too, by its start.

    `quarters` are those of one row by their start, also before the window: a gap may have begun there.
    """
    if rule.policy == "hold-last":
        return {at: quarters[at].held_on for at in _filled(quarters, window, rule)}
    inside = {at: piece for at, piece in quarters.items() if at in window}
    hours = _observed_hours(inside)
    starts = sorted(hours)
    return {at: _estimate(at, inside[at], hours, starts) for at in _filled(quarters, window, rule)}


def _filled(quarters: Mapping[int, Piece], window: Window, rule: GapRule) -> Iterator[int]:
    since = end = None
    for at, piece in sorted(quarters.items()):
        if not piece.missing_ms:
            continue
        since = at if since is None or end != at else since
        end = at + QUARTER_MS
        if at in window and at < since + rule.most_ms:
            yield at


def _observed_hours(quarters: Mapping[int, Piece]) -> dict[int, tuple[int, int]]:
    """Quantity and observed time of each hour with any, by its start."""
    hours: dict[int, tuple[int, int]] = {}
    for at, piece in quarters.items():
        if piece.observed_ms:
            quantity, observed_ms = hours.get(at - at % HOUR_MS, (0, 0))
            hours[at - at % HOUR_MS] = quantity + piece.quantity, observed_ms + piece.observed_ms
    return hours


def _estimate(at: int, piece: Piece, hours: Mapping[int, tuple[int, int]], starts: list[int]) -> int:
    hour = at - at % HOUR_MS
    earlier, later = bisect_right(starts, hour), bisect_left(starts, hour)
    chosen = {*starts[max(0, earlier - 1) : earlier], *starts[later : later + 1]}
    quantity, observed_ms = (sum(hours[start][which] for start in chosen) for which in (0, 1))
    if not observed_ms:
        return piece.held_on
    return (2 * piece.missing_ms * quantity + observed_ms) // (2 * observed_ms)
