"""From a lake table of one organization to what a meter measured in each hour, by quarters of it. Pure.

Quarters, because the months of some zones (+05:30, +05:45) begin inside a UTC hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernel.ids import ClusterId, ProjectId
from kernel.window import DAY_MS, HOUR_MS, QUARTER_MS, Window
from metering.meters.arithmetic import Int64, exact, increments, integral_by_piece, summed_by_piece
from metering.meters.catalogue import Kind, Meter
from metering.meters.held import Held, gaps, union
from metering.meters.levels import Level, summed_levels
from metering.meters.places import NOWHERE, Counted, Placed
from metering.meters.series import Carry, MeterSeries, Seen, SeriesKey, see

QUARTERS = HOUR_MS // QUARTER_MS
FORGOTTEN_MS = 35 * 24 * HOUR_MS  # a series silent for longer is no longer expected
Figures = npt.NDArray[Any]  # (hours, quarters, 4) in the order of a piece; integers, Python's own if they are wide


@dataclass(frozen=True, slots=True, order=True)
class RowKey:
    """What the rows of a meter are kept apart by."""

    project: ProjectId
    cluster: ClusterId
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A quarter of an hour: the integral or increase, what holding the last level through gaps would add, times.

    Times are summed over the things in the row.
    """

    quantity: int = 0
    held_on: int = 0
    observed_ms: int = 0
    missing_ms: int = 0


@dataclass(frozen=True, slots=True)
class RowHour:
    """One row of an hour."""

    key: RowKey
    pieces: tuple[Piece, ...]
    points: tuple[Level, ...] = ()  # the row's summed level; for peak, percentile and latest
    values: Mapping[str, int] | None = None  # unique-count: value, and bits of the quarters it was seen in
    places: str | None = field(default=None, compare=False)  # where its samples stand, see `metering.meters.places`


@dataclass(frozen=True, slots=True)
class MeterHour:
    """An hour of a meter, and what the next one needs of it."""

    rows: tuple[RowHour, ...]
    state: Mapping[SeriesKey, Carry]


@dataclass(frozen=True, slots=True)
class _View:
    """One thing as one collector saw it."""

    keys: Sequence[SeriesKey]
    held: Held
    figures: Figures
    heard_ms: Int64  # by hour, the last sample or marker before its end; 0: none


@dataclass(frozen=True, slots=True)
class _Thing:
    """What is counted once, by the view that counts in each hour."""

    identity: tuple[str, ...]
    views: Sequence[_View]
    chosen: Int64  # by hour
    figures: Figures

    @classmethod
    def of(cls, identity: tuple[str, ...], views: Sequence[_View]) -> _Thing:
        if len(views) == 1:
            return cls(identity, views, np.zeros(len(views[0].figures), np.int64), views[0].figures)
        observed = [view.figures[:, :, 2].sum(axis=1).tolist() for view in views]
        heard = [view.heard_ms.tolist() for view in views]
        # Observed most, then heard last, then by id, which is their order.
        chosen = [
            min(range(len(views)), key=lambda number: (-observed[number][hour], -heard[number][hour], number))
            for hour in range(len(views[0].figures))
        ]
        hours = np.arange(len(chosen))
        return cls(identity, views, np.array(chosen), np.stack([view.figures for view in views])[chosen, hours])


def meter_hours(
    meter: Meter,
    series: Sequence[MeterSeries],
    carried: Mapping[SeriesKey, Carry],
    hours: Sequence[Window],
    limit_ms: int,
    placed: Placed = NOWHERE,
) -> list[MeterHour]:
    """What `meter` measured in consecutive `hours`, from samples in them and what was carried into the first.

    Order, duplicates and chunking change nothing: `carried` is the state of the hour before the first. `placed`:
    where the samples stand, which the rows then tell.
    """
    span = Window(hours[0].start_ms, hours[-1].end_ms)
    seen = see(meter, series, carried, span, limit_ms)
    things: dict[tuple[RowKey, tuple[str, ...]], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for each in seen:
        key = RowKey(each.project, each.cluster, each.dimensions)
        things[key, each.identity][each.key[1]].append(each)
    by_key: dict[RowKey, list[_Thing]] = defaultdict(list)
    for (key, identity), by_collector in sorted(things.items()):
        views = [_view(meter, parts, span) for _, parts in sorted(by_collector.items())]
        by_key[key].append(_Thing.of(identity, views))
    places = placed.of_rows([list(_counted(of_key)) for of_key in by_key.values()], span.start_ms)
    rows: list[list[RowHour]] = [[] for _ in hours]
    for at, (key, of_key) in enumerate(by_key.items()):
        for number, row in _rows(meter, key, of_key, span):
            rows[number].append(replace(row, places=places.get((at, number))))
    states = _states(seen, [hour.end_ms for hour in hours])
    return [MeterHour(tuple(found), state) for found, state in zip(rows, states, strict=True)]


def _view(meter: Meter, parts: Sequence[Seen], span: Window) -> _View:
    edges = np.arange(span.start_ms, span.end_ms + 1, QUARTER_MS, dtype=np.int64)
    held = union([part.held for part in parts])
    ended, events = (_merged([getattr(part, name) for part in parts]) for name in ("ended_ms", "events_ms"))
    starts, ends = gaps(held, ended, span, open_before=any(part.is_open_before for part in parts))
    nothing = np.zeros(len(edges) - 1, np.int64)
    quantity = held_on = nothing
    if meter.kind is Kind.GAUGE_INTEGRAL:
        quantity = integral_by_piece(held.starts, held.ends, held.levels, edges)
        if len(starts):
            last = np.max([part.level_at(starts) for part in parts], axis=0)
            held_on = integral_by_piece(starts, ends, last, edges)
    elif meter.kind is Kind.COUNTER_INCREASE:
        grown = [_grown(part, edges) for part in parts]
        quantity = grown[0] if len(grown) == 1 else np.sum([each.astype(object) for each in grown], axis=0)
    observed = integral_by_piece(held.starts, held.ends, np.ones_like(held.starts), edges)
    lost = integral_by_piece(starts, ends, np.ones_like(starts), edges) if len(starts) else nothing
    figures = np.stack([quantity, held_on, observed, lost], axis=1).reshape(-1, QUARTERS, 4)
    heard = np.searchsorted(events, edges[QUARTERS::QUARTERS], side="left")
    return _View([part.key for part in parts], held, figures, np.concatenate([[0], events])[heard])


def _merged(parts: Sequence[Int64]) -> Int64:
    """Times of several series in order, each once; those of one are so."""
    return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def _grown(part: Seen, edges: Int64) -> npt.NDArray[Any]:
    amounts = increments(part.times_ms, part.counts, part.starts, part.created_after_ms)
    return summed_by_piece(part.times_ms, amounts, edges)


def _rows(meter: Meter, key: RowKey, things: Sequence[_Thing], span: Window) -> Iterator[tuple[int, RowHour]]:
    """The rows of one key, and the number of the hour of each."""
    each = np.stack([thing.figures for thing in things])
    total = exact(each, len(things)).sum(axis=0)
    present = (each[:, :, :, [0, 2, 3]] != 0).any(axis=(2, 3))  # by thing and hour
    points: Sequence[tuple[Level, ...]] = [()] * len(total)
    if meter.kind in {Kind.PEAK, Kind.PERCENTILE, Kind.LATEST}:
        parts = [(view.held, thing.chosen == at) for thing in things for at, view in enumerate(thing.views)]
        points = summed_levels(parts, span)
    figures = total.tolist()
    for number in np.flatnonzero(present.any(axis=0)).tolist():
        values = _values(things, number) if meter.kind is Kind.UNIQUE_COUNT else None
        yield number, RowHour(key, tuple(Piece(*piece) for piece in figures[number]), points[number], values)


def _counted(things: Sequence[_Thing]) -> Iterator[Counted]:
    """The series whose samples are in the figures, and in which hours."""
    for thing in things:
        for at, view in enumerate(thing.views):
            yield Counted(view.keys, thing.chosen == at)


def _values(things: Sequence[_Thing], number: int) -> dict[str, int]:
    """The first of a thing's identity is the value that is counted."""
    found: dict[str, int] = defaultdict(int)
    for thing in things:
        for quarter, observed in enumerate(thing.figures[number, :, 2].tolist()):
            found[thing.identity[0]] |= (observed > 0) << quarter
    return {value: bits for value, bits in sorted(found.items()) if value and bits}


def _states(seen: Sequence[Seen], ends_ms: Sequence[int]) -> list[dict[SeriesKey, Carry]]:
    """What is known of every series at each of these times."""
    states: list[dict[SeriesKey, Carry]] = [{} for _ in ends_ms]
    # Forgotten at the end of a day alone, which no run crosses: so how hours are cut into runs changes nothing.
    since_ms = [at_ms - FORGOTTEN_MS if at_ms % DAY_MS == 0 else 0 for at_ms in ends_ms]
    for each in seen:  # by key
        for state, carry, since in zip(states, each.carries(ends_ms), since_ms, strict=True):
            if carry is not None and carry.last_ms >= since:
                state[each.key] = carry
    return states
