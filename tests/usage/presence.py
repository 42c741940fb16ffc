"""From the samples of one gauge to the time it was observed, missing or absent. Pure, by column.

A sample holds until the next one, at most for the staleness limit, and never past a stale marker. What follows a
held stretch is *absent* when the series ended (a stale marker of a scrape that succeeded), and *missing* in every
other case: a failed scrape, a silent collector, a lost sample. Missing time is kept apart, so that it can look
neither like zero usage nor like full usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.quantity import scale_float
from kernel.window import Window

Int64 = npt.NDArray[np.int64]
_MAX_LEVEL = 10**10  # units; times the milliseconds of a day it stays inside 64 bits


@dataclass(frozen=True, slots=True)
class GaugeSamples:
    """One series: times (ms, increasing), values, and which of the times are the end of the series."""

    times_ms: Int64
    values: npt.NDArray[np.float64]
    ended: npt.NDArray[np.bool_]  # a stale marker written by a scrape that succeeded


@dataclass(frozen=True, slots=True)
class Held:
    """Stretches `[start, end)` with a level; sorted, disjoint."""

    starts: Int64
    ends: Int64
    levels: Int64

    def cut(self, window: Window) -> Held:
        """The stretches that touch the window, whole; found by bisection."""
        first = int(np.searchsorted(self.ends, window.start_ms, side="right"))
        end = int(np.searchsorted(self.starts, window.end_ms, side="left"))
        return Held(self.starts[first:end], self.ends[first:end], self.levels[first:end])

    def observed_ms(self, window: Window) -> int:
        """Milliseconds inside the window."""
        overlap = np.minimum(self.ends, window.end_ms) - np.maximum(self.starts, window.start_ms)
        return int(np.maximum(overlap, 0).sum())

    def integral(self, window: Window) -> int:
        """Level times milliseconds inside the window, exact."""
        overlap = np.minimum(self.ends, window.end_ms) - np.maximum(self.starts, window.start_ms)
        return int((self.levels * np.maximum(overlap, 0)).sum())

    def peak(self, window: Window) -> int:
        """The highest level inside the window, 0 when nothing was observed."""
        inside = (self.starts < window.end_ms) & (self.ends > window.start_ms)
        return int(self.levels[inside].max()) if inside.any() else 0

    def within(self, window: Window) -> tuple[tuple[int, int, int], ...]:
        """Start, end and level of the stretches, cut to the window."""
        inside = (self.starts < window.end_ms) & (self.ends > window.start_ms)
        starts = np.maximum(self.starts[inside], window.start_ms).tolist()
        ends = np.minimum(self.ends[inside], window.end_ms).tolist()
        return tuple(zip(starts, ends, self.levels[inside].tolist(), strict=True))

    def points(self, window: Window) -> list[tuple[int, int]]:
        """Breakpoints (ms, level) inside the window, level 0 where nothing is held."""
        points: list[tuple[int, int]] = []
        for start, end, level in self.within(window):
            if points and points[-1][0] == start:
                points.pop()  # contiguous: the level changes without touching zero
            points += [(start, level), (end, 0)]
        return points


def hold(samples: GaugeSamples, limit_ms: int, scale: int) -> Held:
    """The stretches that samples hold. Values that are no quantity (NaN, negative, infinite) hold nothing."""
    levels, valid = _levels(samples.values, scale)
    ends = samples.times_ms + limit_ms
    ends[:-1] = np.minimum(ends[:-1], samples.times_ms[1:])
    keep = valid & (ends > samples.times_ms)
    return _joined(samples.times_ms[keep], ends[keep], levels[keep])


def union(parts: Sequence[Held]) -> Held:
    """One function of several series of the same thing: where they overlap the highest counts, never the sum."""
    if len(parts) == 1:
        return parts[0]
    edges = np.unique(np.concatenate([edge for part in parts for edge in (part.starts, part.ends)]))
    if len(edges) < 2:
        return Held(edges[:0], edges[:0], edges[:0])
    starts, ends = edges[:-1], edges[1:]
    levels = np.full(len(starts), -1, np.int64)
    for part in parts:
        if len(part.starts) == 0:
            continue
        at = np.searchsorted(part.starts, starts, side="right") - 1
        covered = (at >= 0) & (part.ends[at] > starts)
        levels[covered] = np.maximum(levels[covered], part.levels[at][covered])
    keep = levels >= 0
    return _joined(starts[keep], ends[keep], levels[keep])


def missing(held: Held, ended_ms: Iterable[int], span: Window, *, open_before: bool) -> list[Window]:
    """The windows of `span` in which the thing existed, as far as is known, but was not observed.

    `ended_ms` are the times at which it was seen to end; `open_before` says whether it existed before the span.
    """
    endings = np.unique(np.fromiter(ended_ms, np.int64))
    inside = (held.starts < span.end_ms) & (held.ends > span.start_ms)
    stretches = [*zip(held.starts[inside].tolist(), held.ends[inside].tolist(), strict=True)]
    gaps: list[Window] = []
    at, is_open = span.start_ms, open_before
    for start, end in [*stretches, (span.end_ms, span.end_ms)]:
        if start > at and is_open:
            ending = _first_in(endings, at, start)
            gap_end = start if ending is None else ending
            if gap_end > at:
                gaps.append(Window(at, gap_end))
        at, is_open = max(at, end), True
    return gaps


def open_at(held: Held, ended_ms: Iterable[int], moment_ms: int, *, open_before: bool) -> bool:
    """Whether the thing exists at that time: it was held after it was last seen to end, or never seen to end."""
    last_end = max((at for at in ended_ms if at <= moment_ms), default=None)
    seen = int(np.searchsorted(held.starts, moment_ms, side="left"))
    if seen == 0:
        return open_before and last_end is None
    # One of several series may end while another goes on: the end of the stretch decides, not its start.
    return last_end is None or last_end < int(held.ends[seen - 1])


def _first_in(sorted_ms: Int64, start_ms: int, end_ms: int) -> int | None:
    index = int(np.searchsorted(sorted_ms, start_ms, side="left"))
    return int(sorted_ms[index]) if index < len(sorted_ms) and sorted_ms[index] < end_ms else None


def _levels(values: npt.NDArray[np.float64], scale: int) -> tuple[Int64, npt.NDArray[np.bool_]]:
    distinct, inverse = np.unique(values, return_inverse=True)
    scaled = np.array([_level(float(value), scale) for value in distinct], np.int64)
    levels = scaled[inverse] if len(values) else np.zeros(0, np.int64)
    return levels, levels >= 0


def _level(value: float, scale: int) -> int:
    try:
        level = scale_float(value, scale)
    except DeadLetter:
        return -1
    return level if 0 <= level <= _MAX_LEVEL else -1


def _joined(starts: Int64, ends: Int64, levels: Int64) -> Held:
    if len(starts) == 0:
        return Held(starts, ends, levels)
    first = np.ones(len(starts), np.bool_)
    first[1:] = (starts[1:] != ends[:-1]) | (levels[1:] != levels[:-1])
    last = np.append(first[1:], True)
    return Held(starts[first], ends[last], levels[first])
