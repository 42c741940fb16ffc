"""From samples of many gauges to the stretches of time over which each has a level. Pure, numpy.

Levels are integers of a meter's unit (milli-vCPU). A sample holds until the next one of its series, at most for the
staleness limit; what is no quantity and a stale marker hold nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metering.usage.levels import Int64


@dataclass(frozen=True, slots=True)
class Segments:
    """Samples by series, then time; equal levels that follow each other within the limit stand as one row.

    All four have one length. `series` are the caller's numbers, ascending; `first_ms` and `last_ms` the times of
    the first and last sample of the row (ms), each `first_ms` after the `last_ms` before it in its series; `levels`
    at least 0, NOTHING or ENDED; a row of ENDED is one sample.
    """

    series: Int64
    first_ms: Int64
    last_ms: Int64
    levels: Int64

    def __len__(self) -> int:
        return len(self.series)

    def take(self, rows: npt.NDArray[np.generic]) -> Segments:
        return Segments(self.series[rows], self.first_ms[rows], self.last_ms[rows], self.levels[rows])

    def in_order(self) -> Segments:
        """The same by series, then time."""
        is_ordered = (self.series[1:] > self.series[:-1]) | (
            (self.series[1:] == self.series[:-1]) & (self.first_ms[1:] >= self.first_ms[:-1])
        )
        return self if is_ordered.all() else self.take(np.lexsort((self.first_ms, self.series)))

    def overlaps(self) -> Int64:
        """The series in which a row begins no later than the row before it ends; rows in order."""
        same = self.series[1:] == self.series[:-1]
        return np.unique(self.series[1:][same & (self.first_ms[1:] <= self.last_ms[:-1])])

    @classmethod
    def joined(cls, parts: list[Segments]) -> Segments:
        """All rows of all parts, in order."""
        columns = zip(*((part.series, part.first_ms, part.last_ms, part.levels) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns)).in_order() if parts else cls.none()

    @classmethod
    def none(cls) -> Segments:
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, nothing, nothing)


@dataclass(frozen=True, slots=True)
class Stretches:
    """`levels[i]` holds over `[starts[i], ends[i])` in `owners[i]`; by owner, then time, disjoint in an owner."""

    owners: Int64
    starts: Int64
    ends: Int64
    levels: Int64

    def take(self, rows: npt.NDArray[np.generic]) -> Stretches:
        return Stretches(self.owners[rows], self.starts[rows], self.ends[rows], self.levels[rows])


def segments_of(series: Int64, times_ms: Int64, levels: Int64, limit_ms: int) -> Segments:
    """Samples by series, then time, each (series, time) once, as segments. Raises ValueError if they are not so."""
    if not len(series):
        return Segments.none()
    is_first = np.ones(len(series), np.bool_)
    same = series[1:] == series[:-1]
    steps = times_ms[1:] - times_ms[:-1]
    if (series[1:] < series[:-1]).any() or (same & (steps <= 0)).any():
        raise ValueError("samples must be ordered by series and time, each once")
    is_first[1:] = ~same | (steps > limit_ms) | (levels[1:] != levels[:-1]) | (levels[1:] < 0)
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(series)) - 1
    return Segments(series[first], times_ms[first], times_ms[last], levels[first])


def held(segments: Segments, owner_of: Int64, limit_ms: int) -> Stretches:
    """What segments without overlaps hold; `owner_of[series]` is whose level it is, -1: nobody's.

    Where several series of one owner overlap the highest level counts, never the sum.
    """
    ends = segments.last_ms + limit_ms
    same = segments.series[1:] == segments.series[:-1]
    ends[:-1][same] = np.minimum(ends[:-1][same], segments.first_ms[1:][same])
    owners = owner_of[segments.series]
    kept = (segments.levels >= 0) & (owners >= 0)
    found = Stretches(owners[kept], segments.first_ms[kept], ends[kept], segments.levels[kept])
    series = segments.series[kept]
    order = np.lexsort((found.starts, found.owners))
    found, series = found.take(order), series[order]
    late = (found.owners[1:] == found.owners[:-1]) & (found.starts[1:] < found.ends[:-1])
    if late.any():
        shared = np.isin(found.owners, found.owners[1:][late])
        apart, union = found.take(~shared), _highest(found.take(shared), series[shared])
        columns = [np.concatenate(each) for each in zip(_columns(apart), _columns(union), strict=True)]
        found = Stretches(*columns)
        found = found.take(np.lexsort((found.starts, found.owners)))
    return _joined(found)


def cut_at(found: Stretches, edges_ms: Int64) -> tuple[Stretches, Int64]:
    """The stretches cut at the hours' edges, and the hour of each piece; what lies outside is gone."""
    found = found.take((found.ends > edges_ms[0]) & (found.starts < edges_ms[-1]))
    first = np.maximum(np.searchsorted(edges_ms, found.starts, side="right") - 1, 0)
    last = np.minimum(np.searchsorted(edges_ms, found.ends, side="left"), len(edges_ms) - 1)
    counts = last - first
    pieces = found.take(np.repeat(np.arange(len(counts)), counts))
    hours = np.arange(len(pieces.owners)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    starts, ends = np.maximum(pieces.starts, edges_ms[hours]), np.minimum(pieces.ends, edges_ms[hours + 1])
    return Stretches(pieces.owners, starts, ends, pieces.levels), hours


def _highest(found: Stretches, series: Int64) -> Stretches:
    """One function for each owner; `series[i]` is the series of stretch i, whose own stretches are disjoint.

    The n-th series of every owner are one layer; the layers are laid over each other on the union of all edges.
    """
    base = int(found.starts.min())
    width = int(found.ends.max()) - base + 1
    _, owners = np.unique(found.owners, return_inverse=True)
    begin, end = owners * width + (found.starts - base), owners * width + (found.ends - base)
    layers = _place_in_owner(owners, series)
    edges = np.unique(np.concatenate([begin, end]))[:-1]  # between the last edge of all and the next is nothing
    levels = np.full(len(edges), -1, np.int64)
    by_layer = np.argsort(layers, kind="stable")
    bounds = np.searchsorted(layers[by_layer], np.arange(int(layers.max()) + 2))
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        mine = by_layer[first:last]
        at = np.searchsorted(begin[mine], edges, side="right") - 1
        covered = (at >= 0) & (end[mine][at] > edges)
        levels[covered] = np.maximum(levels[covered], found.levels[mine][at][covered])
    kept = levels >= 0
    until = np.append(edges[1:], end.max())[kept]
    edges, known = edges[kept], np.unique(found.owners)
    return Stretches(
        known[edges // width],
        edges % width + base,
        edges % width + base + (until - edges),
        levels[kept],
    )


def _place_in_owner(owners: Int64, series: Int64) -> Int64:
    """By row, which of its owner's series it belongs to, from 0."""
    order = np.lexsort((series, owners))
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = series[order][1:] != series[order][:-1]
    is_owner = np.ones(len(order), np.bool_)
    is_owner[1:] = owners[order][1:] != owners[order][:-1]
    number = np.cumsum(is_new | is_owner)
    places = np.empty(len(order), np.int64)
    places[order] = number - np.maximum.accumulate(np.where(is_owner, number, 0))
    return places


def _joined(found: Stretches) -> Stretches:
    """Neighbours that touch and have one level are one."""
    if not len(found.owners):
        return found
    is_first = np.ones(len(found.owners), np.bool_)
    is_first[1:] = (
        (found.owners[1:] != found.owners[:-1])
        | (found.starts[1:] != found.ends[:-1])
        | (found.levels[1:] != found.levels[:-1])
    )
    is_last = np.append(is_first[1:], True)
    return Stretches(found.owners[is_first], found.starts[is_first], found.ends[is_last], found.levels[is_first])


def _columns(found: Stretches) -> tuple[Int64, Int64, Int64, Int64]:
    return found.owners, found.starts, found.ends, found.levels
