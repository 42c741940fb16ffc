"""Hours of all components of an organization at once. Pure: numpy alone, so that a collector can compute them too.

`hour_table` is the rule of the README by column: it takes segments (`metering.usage.stretches`) and gives a row for
each component and hour. Nothing here knows the lake, labels or names: series, views and components are numbers. A
*view* is one component as one collector saw it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metering.usage.levels import ENDED, Bools, Int64
from metering.usage.stretches import Segments, Stretches, cut_at, held

NEVER = -(1 << 62)  # a time


@dataclass(frozen=True, slots=True)
class Views:
    """`of_series[s]`: the view that series s belongs to, -1 for none; `components[v]`: the component of view v.

    `components` ascends, and the views of one component are in the order of their collectors' ids. Every component
    below `count` may have views or none.
    """

    of_series: Int64
    components: Int64
    count: int  # of components


@dataclass(frozen=True, slots=True)
class Pieces:
    """The level of component `components[i]` over `[starts[i], ends[i])`, inside hour number `hours[i]`.

    By component, then time; what is not here was not observed. Only the view that counts.
    """

    components: Int64
    hours: Int64
    starts: Int64
    ends: Int64
    levels: Int64


@dataclass(frozen=True, slots=True)
class HourTable:
    """A row for each hour and component that existed in it, by hour, then component; columns of one length.

    `views` is the one that counts, -1 if nobody has seen the component in that hour. Integrals are level times
    milliseconds.
    """

    hours: Int64
    components: Int64
    views: Int64
    integrals: Int64
    observed_ms: Int64
    missing_ms: Int64
    peaks: Int64
    open_at_end: Bools
    pieces: Pieces
    gaps: Pieces  # where `missing_ms` lies, level 0


@dataclass(frozen=True, slots=True)
class Steps:
    """The sum of all components' levels, for each hour apart: from `times_ms[i]` on it is `levels[i]`.

    By hour, then time; zero before the first point of an hour, and neighbours in an hour differ.
    """

    hours: Int64
    times_ms: Int64
    levels: Int64


def hour_table(segments: Segments, views: Views, edges_ms: Int64, limit_ms: int, open_before: Bools) -> HourTable:
    """Usage of the hours `[edges_ms[h], edges_ms[h + 1])`, which follow each other.

    `segments`: the samples from `limit_ms` before the first hour on, in order, without overlaps; more do not hurt.
    `open_before[c]`: component c existed at the start. Cutting the hours into several calls changes nothing, if
    each is told what was `open_at_end` in the one before. Memory: about 150 bytes for each view and hour.
    """
    seen = _seen(segments, views, edges_ms, limit_ms)
    chosen = _chosen(seen, views)
    is_heard = chosen >= 0
    rows = np.where(is_heard, chosen, 0) if len(views.components) else np.zeros_like(chosen)
    hours = np.broadcast_to(np.arange(len(edges_ms) - 1), chosen.shape)

    def of_chosen(figures: Int64) -> Int64:
        """By component and hour; 0 where nobody heard."""
        if not len(views.components):
            return np.zeros(chosen.shape, np.int64)
        return np.where(is_heard, figures[rows, hours], 0)

    observed = of_chosen(seen.observed_ms)
    is_open = of_chosen(seen.last_ms) > of_chosen(seen.last_ended_ms)
    open_at_end = _carried(is_open, is_heard, open_before)
    open_at_start = np.concatenate([open_before[:, None], open_at_end[:, :-1]], axis=1)
    before = np.where(is_heard, of_chosen(seen.missing_before_ms), np.diff(edges_ms)[None, :])
    before = np.where(open_at_start, before, 0)
    missing = of_chosen(seen.missing_ms) + before
    hour, component = np.nonzero(((observed > 0) | open_at_start).T)
    at = component, hour
    pieces = seen.pieces
    counts = chosen[views.components[pieces.owners], seen.piece_hours] == pieces.owners
    return HourTable(
        hours=hour,
        components=component,
        views=chosen[at],
        integrals=of_chosen(seen.integrals)[at],
        observed_ms=observed[at],
        missing_ms=missing[at],
        peaks=of_chosen(seen.peaks)[at],
        open_at_end=open_at_end[at],
        pieces=Pieces(
            views.components[pieces.owners[counts]],
            seen.piece_hours[counts],
            pieces.starts[counts],
            pieces.ends[counts],
            pieces.levels[counts],
        ),
        gaps=_gaps(seen, views, counts, before, edges_ms),
    )


def _gaps(seen: _Seen, views: Views, counts: Bools, before_ms: Int64, edges_ms: Int64) -> Pieces:
    """What is missing at the start of an hour, by component and hour, and after each piece that counts."""
    component, hour = np.nonzero(before_ms)
    at = np.flatnonzero(counts & (seen.piece_lost_ms > 0))
    ends = seen.pieces.ends[at]
    components = np.concatenate([component, views.components[seen.pieces.owners[at]]])
    starts = np.concatenate([edges_ms[hour], ends])
    until = np.concatenate([edges_ms[hour] + before_ms[component, hour], ends + seen.piece_lost_ms[at]])
    hours = np.concatenate([hour, seen.piece_hours[at]])
    order = np.lexsort((starts, components))
    return Pieces(components[order], hours[order], starts[order], until[order], np.zeros_like(order))


def steps_of(pieces: Pieces) -> Steps:
    """The summed level of all components, hour by hour."""
    if not len(pieces.hours):
        return Steps(pieces.hours, pieces.starts, pieces.levels)
    hours = np.concatenate([pieces.hours, pieces.hours])
    times = np.concatenate([pieces.starts, pieces.ends])
    changes = np.concatenate([pieces.levels, -pieces.levels])
    order = np.lexsort((times, hours))
    hours, times, changes = hours[order], times[order], changes[order]
    first = np.flatnonzero(np.append(True, (hours[1:] != hours[:-1]) | (times[1:] != times[:-1])))
    levels = np.cumsum(np.add.reduceat(changes, first))  # every hour ends at zero: none leads into the next
    kept = np.append(levels[0] != 0, levels[1:] != levels[:-1])
    return Steps(hours[first][kept], times[first][kept], levels[kept])


@dataclass(frozen=True, slots=True)
class _Seen:
    """What each view says of each hour: arrays of (views, hours), 0 where it says nothing."""

    integrals: Int64
    observed_ms: Int64
    missing_ms: Int64  # after the first stretch
    missing_before_ms: Int64  # before it, if the component existed at the start of the hour
    peaks: Int64
    last_ms: Int64  # until when it held; NEVER if it did not
    last_ended_ms: Int64  # when it was last seen to end; NEVER if it was not
    pieces: Stretches  # cut at the hours
    piece_hours: Int64
    piece_lost_ms: Int64  # missing right after each piece


def _seen(segments: Segments, views: Views, edges_ms: Int64, limit_ms: int) -> _Seen:
    shape = len(views.components), len(edges_ms) - 1
    pieces, hours = cut_at(held(segments, views.of_series, limit_ms), edges_ms)
    cells = pieces.owners * shape[1] + hours
    first = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])[: len(cells)])
    last = np.append(first[1:], len(cells))[: len(first)] - 1
    lengths = pieces.ends - pieces.starts
    ended = _Ends.of(segments, views, edges_ms)

    def by_cell(figures: Int64, at: Int64 = cells[first], empty: int = 0) -> Int64:
        dense = np.full(shape[0] * shape[1], empty, np.int64)
        dense[at] = figures
        return dense.reshape(shape)

    def reduced(operation: np.ufunc, figures: Int64) -> Int64:
        return by_cell(operation.reduceat(figures, first) if len(first) else figures)

    lost = np.zeros(len(cells), np.int64)
    inner = np.flatnonzero((cells[1:] == cells[:-1]) & (pieces.starts[1:] > pieces.ends[:-1]))
    lost[inner] = ended.until(pieces.owners[inner], pieces.ends[inner], pieces.starts[inner + 1])
    lost[last] = ended.until(pieces.owners[last], pieces.ends[last], edges_ms[hours[last] + 1])
    held_from = np.broadcast_to(edges_ms[1:], shape).copy()
    held_from.reshape(-1)[cells[first]] = pieces.starts[first]
    whose = np.repeat(np.arange(shape[0]), shape[1])
    before = ended.until(whose, np.tile(edges_ms[:-1], shape[0]), held_from.reshape(-1))
    return _Seen(
        integrals=reduced(np.add, pieces.levels * lengths),
        observed_ms=reduced(np.add, lengths),
        missing_ms=reduced(np.add, lost),
        missing_before_ms=before.reshape(shape),
        peaks=reduced(np.maximum, pieces.levels),
        last_ms=by_cell(pieces.ends[last], empty=NEVER),
        last_ended_ms=by_cell(*ended.last_by_cell(edges_ms), empty=NEVER),
        pieces=pieces,
        piece_hours=hours,
        piece_lost_ms=lost,
    )


@dataclass(frozen=True, slots=True)
class _Ends:
    """When views were seen to end inside the hours; by view, then time."""

    views: Int64
    times_ms: Int64
    base_ms: int
    width_ms: int

    @classmethod
    def of(cls, segments: Segments, views: Views, edges_ms: Int64) -> _Ends:
        rows = np.flatnonzero(segments.levels == ENDED)
        owners, times = views.of_series[segments.series[rows]], segments.first_ms[rows]
        kept = (owners >= 0) & (times >= edges_ms[0]) & (times < edges_ms[-1])
        owners, times = owners[kept], times[kept]
        order = np.lexsort((times, owners))
        base = int(edges_ms[0])
        return cls(owners[order], times[order], base, int(edges_ms[-1]) - base + 1)

    def until(self, views: Int64, starts: Int64, ends: Int64) -> Int64:
        """Milliseconds from each start to the view's first ending in `[start, end)`, or to the end."""
        lengths: Int64 = ends - starts
        if not len(self.views):
            return lengths
        keys = self.views * self.width_ms + (self.times_ms - self.base_ms)
        at = np.searchsorted(keys, views * self.width_ms + (starts - self.base_ms), side="left")
        at = np.minimum(at, len(keys) - 1)
        is_inside = (self.views[at] == views) & (self.times_ms[at] >= starts) & (self.times_ms[at] < ends)
        return np.where(is_inside, self.times_ms[at] - starts, lengths)

    def last_by_cell(self, edges_ms: Int64) -> tuple[Int64, Int64]:
        """The last ending of each view in each hour that has one, and which cells those are."""
        cells = self.views * (len(edges_ms) - 1) + np.searchsorted(edges_ms, self.times_ms, side="right") - 1
        is_last = np.append(cells[1:] != cells[:-1], True)[: len(cells)]
        return self.times_ms[is_last], cells[is_last]


def _chosen(seen: _Seen, views: Views) -> Int64:
    """The view that counts, by component and hour; -1: nobody heard of it.

    Of several the one that observed most, then that heard last, then the first.
    """
    chosen = np.full((views.count, seen.observed_ms.shape[1]), -1, np.int64)
    heard_until = np.maximum(seen.last_ms, seen.last_ended_ms)
    view, hour = np.nonzero(heard_until != NEVER)
    component = views.components[view]
    if len(np.unique(views.components)) < len(views.components):
        worst_first = np.lexsort((-view, heard_until[view, hour], seen.observed_ms[view, hour]))
        view, hour, component = view[worst_first], hour[worst_first], component[worst_first]
    chosen[component, hour] = view  # of several writes the last one stays
    return chosen


def _carried(is_open: Bools, is_known: Bools, before: Bools) -> Bools:
    """`is_open` where it is known; elsewhere as it was last known along the row, `before` at its start."""
    places = np.where(is_known, np.arange(1, is_open.shape[1] + 1)[None, :], 0)
    last = np.maximum.accumulate(places, axis=1)
    with_before = np.concatenate([before[:, None], is_open], axis=1)
    found: npt.NDArray[np.bool_] = np.take_along_axis(with_before, last, axis=1)
    return found
