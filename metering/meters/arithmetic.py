"""What each kind of meter does with samples. Pure, by column, exact integers; no order of rows decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.quantity import scale_float
from kernel.steps import StepFunction
from kernel.window import Window

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SLOT_MS = 300_000
_WHOLE = 2.0**53  # doubles below are exact integers
_SAFE = 2**62


def integers(values: Floats, scale: int) -> tuple[Int64, npt.NDArray[np.bool_]]:
    """Samples in units of 1/scale, and which are quantities: not NaN, negative, infinite or beyond 64 bits.

    Each as `kernel.quantity.scale_float` gives it.
    """
    found = np.zeros(len(values), np.int64)
    with np.errstate(invalid="ignore"):
        valid = (values >= 0) & np.isfinite(values)
        whole = valid & (values < min(_WHOLE, _SAFE / scale)) & (np.floor(values) == values)
    found[whole] = values[whole].astype(np.int64) * scale
    rest = np.flatnonzero(valid & ~whole)
    distinct, inverse = np.unique(values[rest], return_inverse=True)
    scaled = [_scaled(float(value), scale) for value in distinct]
    valid[rest] = np.asarray([each is not None for each in scaled], np.bool_)[inverse]
    found[rest] = np.asarray([each or 0 for each in scaled], np.int64)[inverse]
    return found, valid


def _scaled(value: float, scale: int) -> int | None:
    try:
        return scale_float(value, scale)
    except DeadLetter:
        return None


@dataclass(frozen=True, slots=True)
class Starts:
    """When a counter began, as its samples told: `seen_ms` (sorted) is the first sample that told `start_ms`."""

    start_ms: Int64
    seen_ms: Int64

    @classmethod
    def none(cls) -> Starts:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))


def increments(
    times_ms: Int64, counts: Int64, starts: Starts, created_after_ms: int | None
) -> npt.NDArray[np.int64]:
    """What a counter grew by at each of its samples (times increasing), after those before.

    Reset: the value fell, or a sample told of a start after the one before it. Then it grew by its whole value, as
    it does at the first sample if it is known to have begun at or after `created_after_ms`; else the first sample
    is where counting begins, and grew by nothing (None: never from zero). So the sums of windows that tile are the
    sum of all: nothing is extrapolated.
    """
    grown = np.empty(len(counts), np.int64)
    if len(counts) == 0:
        return grown
    told = np.searchsorted(starts.seen_ms, times_ms, side="right") - 1
    start = np.where(told >= 0, starts.start_ms[told], -1) if len(starts.seen_ms) else np.full(len(counts), -1)
    seen = starts.seen_ms[told] if len(starts.seen_ms) else start
    is_reset = (counts[1:] < counts[:-1]) | ((start[1:] > times_ms[:-1]) & (seen[1:] > times_ms[:-1]))
    grown[1:] = np.where(is_reset, counts[1:], counts[1:] - counts[:-1])
    is_new = created_after_ms is not None and start[0] >= 0 and start[0] >= created_after_ms
    grown[0] = counts[0] if is_new else 0
    return grown


def summed_by_piece(times_ms: Int64, amounts: Int64, edges_ms: Int64) -> npt.NDArray[Any]:
    """The sum of the amounts in each `[edge, next edge)`, exact whatever their size."""
    running = np.concatenate([[0], np.cumsum(exact(amounts, len(amounts)))])
    at = running[np.searchsorted(times_ms, edges_ms, side="left")]
    return np.diff(at)


def integral_by_piece(starts: Int64, ends: Int64, levels: Int64, edges_ms: Int64) -> npt.NDArray[Any]:
    """Level times milliseconds in each `[edge, next edge)` of sorted, disjoint stretches, exact."""
    if len(starts) == 0:
        return np.zeros(len(edges_ms) - 1, np.int64)
    lengths = ends - starts
    wide = exact(levels, int(lengths.sum()) + 1)
    running = np.concatenate([[0], np.cumsum(wide * lengths)])
    at = np.searchsorted(starts, edges_ms, side="right") - 1  # the last stretch that began by then
    inside = np.clip(edges_ms - starts[at], 0, lengths[at])
    value = np.where(at >= 0, running[at] + wide[at] * inside, 0)
    return np.diff(value)


def exact(numbers: npt.NDArray[Any], times: int) -> npt.NDArray[Any]:
    """The same in 64 bits if they, so many times, stay inside them; else as Python's integers."""
    largest = int(np.abs(numbers).max()) if numbers.size else 0
    return numbers if largest * max(times, 1) < _SAFE else numbers.astype(object)


def slot_integrals(step: StepFunction, window: Window) -> list[int]:
    """The integral of each 5-minute slot of the window, in level times milliseconds."""
    edges = range(window.start_ms, window.end_ms, SLOT_MS)
    return [step.integral(Window(at, min(at + SLOT_MS, window.end_ms))) for at in edges]


def nearest_rank(values: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` of all do not exceed; 0 of none.

    Source: nearest-rank method, as in NIST's definition of order statistics; no interpolation, so that the result
    is a value that occurred.
    """
    if not values:
        return 0
    rank = -(-percent * len(values) // 100)
    return sorted(values)[max(rank, 1) - 1]
