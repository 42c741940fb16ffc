"""Hours of a meter thing by thing and hour by hour: what the columns are judged by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernel.window import DAY_MS, QUARTER_MS, Window
from metering.meters.arithmetic import Int64, increments, integral_by_piece, summed_by_piece
from metering.meters.catalogue import Kind, Meter
from metering.meters.hours import FORGOTTEN_MS, QUARTERS, MeterHour, Piece, RowHour, RowKey
from metering.meters.levels import Level
from metering.meters.series import Carry, MeterSeries, Seen, SeriesKey, see
from tests.usage.presence import Held, missing, union


@dataclass(frozen=True, slots=True)
class _View:
    """One thing as one collector saw it, its figures by quarter."""

    collector: str
    held: Held
    events_ms: Int64
    pieces: Sequence[Piece]

    def rank(self, number: int, hour: Window) -> tuple[int, int, str]:
        """The least is the best: observed most, then heard last, then by id."""
        observed = sum(piece.observed_ms for piece in self.of(number))
        heard = int(np.searchsorted(self.events_ms, hour.end_ms, side="left"))
        return -observed, -int(self.events_ms[heard - 1]) if heard else 0, self.collector

    def of(self, number: int) -> Sequence[Piece]:
        return self.pieces[number * QUARTERS : (number + 1) * QUARTERS]


def meter_hours(
    meter: Meter,
    series: Sequence[MeterSeries],
    carried: Mapping[SeriesKey, Carry],
    hours: Sequence[Window],
    limit_ms: int,
) -> list[MeterHour]:
    """What `meter` measured in consecutive `hours`, from samples in them and what was carried into the first.

    Order, duplicates and chunking change nothing: `carried` is the state of the hour before the first.
    """
    span = Window(hours[0].start_ms, hours[-1].end_ms)
    seen = see(meter, series, carried, span, limit_ms)
    things: dict[tuple[RowKey, tuple[str, ...]], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for each in seen:
        key = RowKey(each.project, each.cluster, each.dimensions)
        things[key, each.identity][each.key[1]].append(each)
    views = {
        thing: [_view(meter, collector, parts, span) for collector, parts in sorted(by_collector.items())]
        for thing, by_collector in sorted(things.items())
    }
    return [
        MeterHour(tuple(_rows(meter, views, number, hour)), _state(seen, hour.end_ms))
        for number, hour in enumerate(hours)
    ]


def _view(meter: Meter, collector: str, parts: Sequence[Seen], span: Window) -> _View:
    edges = np.arange(span.start_ms, span.end_ms + 1, QUARTER_MS, dtype=np.int64)
    held = union([Held(part.held.starts, part.held.ends, part.held.levels) for part in parts])
    ended = np.unique(np.concatenate([part.ended_ms for part in parts]))
    is_open = any(part.is_open_before for part in parts)
    gaps = missing(held, ended.tolist(), span, open_before=is_open)
    starts = np.asarray([gap.start_ms for gap in gaps], np.int64)
    ends = np.asarray([gap.end_ms for gap in gaps], np.int64)
    last = np.max([part.level_at(starts) for part in parts], axis=0) if len(gaps) else starts
    ones, each = np.ones_like(held.starts), np.ones_like(starts)
    quantity: Any = [0] * (len(edges) - 1)
    if meter.kind is Kind.GAUGE_INTEGRAL:
        quantity = integral_by_piece(held.starts, held.ends, held.levels, edges)
    elif meter.kind is Kind.COUNTER_INCREASE:
        quantity = [sum(each) for each in zip(*(_grown(part, edges) for part in parts), strict=True)]
    held_on: Any = (
        integral_by_piece(starts, ends, last, edges) if meter.kind is Kind.GAUGE_INTEGRAL else [0] * len(quantity)
    )
    observed = integral_by_piece(held.starts, held.ends, ones, edges)
    lost = integral_by_piece(starts, ends, each, edges)
    pieces = [Piece(*figures) for figures in zip(quantity, held_on, observed, lost, strict=True)]
    return _View(collector, held, np.unique(np.concatenate([part.events_ms for part in parts])), pieces)


def _grown(part: Seen, edges: Int64) -> Any:
    amounts = increments(part.times_ms, part.counts, part.starts, part.created_after_ms)
    return summed_by_piece(part.times_ms, amounts, edges)


def _rows(
    meter: Meter, views: Mapping[tuple[RowKey, tuple[str, ...]], Sequence[_View]], number: int, hour: Window
) -> Iterator[RowHour]:
    chosen: dict[RowKey, list[tuple[tuple[str, ...], _View]]] = defaultdict(list)
    for (key, identity), of_thing in views.items():
        best = min(of_thing, key=lambda view: view.rank(number, hour))
        if any(piece.observed_ms or piece.missing_ms or piece.quantity for piece in best.of(number)):
            chosen[key].append((identity, best))
    for key, things in sorted(chosen.items()):
        pieces = [_sum(quarter) for quarter in zip(*(view.of(number) for _, view in things), strict=True)]
        points: tuple[Level, ...] = ()
        values = None
        if meter.kind in {Kind.PEAK, Kind.PERCENTILE, Kind.LATEST}:
            points = tuple(_summed([view.held for _, view in things], hour))
        elif meter.kind is Kind.UNIQUE_COUNT:
            values = _values(things, number)
        yield RowHour(key, tuple(pieces), points, values)


def _sum(pieces: Sequence[Piece]) -> Piece:
    names = ("quantity", "held_on", "observed_ms", "missing_ms")
    return Piece(*(sum(int(getattr(piece, name)) for piece in pieces) for name in names))


def _values(things: Sequence[tuple[tuple[str, ...], _View]], number: int) -> dict[str, int]:
    """The first of a thing's identity is the value that is counted."""
    found: dict[str, int] = defaultdict(int)
    for identity, view in things:
        for quarter, piece in enumerate(view.of(number)):
            found[identity[0]] |= (piece.observed_ms > 0) << quarter
    return {value: bits for value, bits in sorted(found.items()) if value and bits}


def _summed(parts: Sequence[Held], hour: Window) -> Iterator[Level]:
    """The sum of all levels from each moment on at which it changes, None where nothing is held."""
    changes: dict[int, tuple[int, int]] = {}
    for part in parts:
        cut = part.cut(hour)
        for start, end, level in zip(cut.starts.tolist(), cut.ends.tolist(), cut.levels.tolist(), strict=True):
            for at, sign in ((max(start, hour.start_ms), 1), (min(end, hour.end_ms), -1)):
                total, held = changes.get(at, (0, 0))
                changes[at] = total + sign * level, held + sign
    total = held = 0
    before: int | None = None
    for at in sorted(changes):
        total, held = total + changes[at][0], held + changes[at][1]
        level = total if held else None
        if level != before and at < hour.end_ms:
            yield at, level
        before = level


def _state(seen: Sequence[Seen], at_ms: int) -> dict[SeriesKey, Carry]:
    since_ms = at_ms - FORGOTTEN_MS if at_ms % DAY_MS == 0 else 0
    found = {each.key: _carry(each, at_ms) for each in seen}
    return {key: carry for key, carry in sorted(found.items()) if carry is not None and carry.last_ms >= since_ms}


def _carry(seen: Seen, at_ms: int) -> Carry | None:
    events = [at for at in seen.events_ms.tolist() if at < at_ms]
    known = [
        (at, count) for at, count in zip(seen.times_ms.tolist(), seen.counts.tolist(), strict=True) if at < at_ms
    ]
    if not events:
        return None
    value_ms, value = known[-1] if known else (-1, 0)
    return Carry(events[-1], value_ms, value, events[-1] in seen.ended_ms.tolist())
