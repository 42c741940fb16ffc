"""A meter's gauges in a window, read from the lake's files and reduced to segments, and whose series they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, CollectorId, ProjectId, parse_id
from metering.lake.runs import FileRuns
from metering.lake.steady import RowRanges, SteadyRuns, SteadySeries, steady_series
from metering.lake.stored_values import StoredValues
from metering.record import STALE_NAN_BITS, LabelSet, parse_canonical_labels
from metering.usage.levels import (
    ENDED,
    NOTHING,
    Bools,
    Floats,
    Int64,
    is_among,
    levels_of,
    levels_of_integers,
    one_each,
)
from metering.usage.meter import TARGET_UP, Component, GaugeMeter
from metering.usage.stretches import Segments, segments_of

_MARKER = -3  # a level: a stale marker of which nobody has asked yet whether its scrape succeeded


@dataclass(frozen=True, slots=True)
class GaugeSeries:
    """One series of a component, as a collector sent it."""

    component: Component
    collector: CollectorId
    labels: bytes  # canonical


@dataclass(frozen=True, slots=True)
class GaugeReading:
    """Segments of the meter's series (`metering.usage.stretches`), in order, without overlaps."""

    series: tuple[GaugeSeries, ...]  # by number
    segments: Segments
    ranges: RowRanges  # where its samples stand; slots are numbers of series

    def tail(self, since_ms: int) -> GaugeReading:
        """The last sample of each series, if it is a quantity and from after that time: what may hold on."""
        is_last = np.append(self.segments.series[1:] != self.segments.series[:-1], True)[: len(self.segments)]
        last = self.segments.take(is_last & (self.segments.last_ms > since_ms) & (self.segments.levels >= 0))
        return GaugeReading(
            self.series, Segments(last.series, last.last_ms, last.last_ms, last.levels), RowRanges.joined([])
        )

    def after(self, earlier: GaugeReading) -> GaugeReading:
        """This reading, led by an earlier one that ends before it begins."""
        if not len(earlier.segments):
            return self
        numbers = {series: number for number, series in enumerate(self.series)}
        for used in np.unique(earlier.segments.series).tolist():
            numbers.setdefault(earlier.series[used], len(numbers))
        renumbered = np.array([numbers.get(series, -1) for series in earlier.series], np.int64)
        before = earlier.segments
        moved = Segments(renumbered[before.series], before.first_ms, before.last_ms, before.levels)
        return GaugeReading(tuple(numbers), Segments.joined([moved, self.segments]), self.ranges)


def read_gauges(found: SteadySeries, meter: GaugeMeter, limit_ms: int) -> GaugeReading:
    """What the meter counts of the stretches, which are made with the same limit.

    Order and duplicates of the rows change nothing.
    """
    known = _Known.of(found.series, meter)
    parts = [_segments(file, known.number_of, meter.scale) for file in found.files]
    segments = Segments.joined(parts)
    tangled = segments.overlaps()
    if len(tangled):
        apart = segments.take(~np.isin(segments.series, tangled))
        slots = known.slots[tangled]
        rows, times, values = _rows(found.rows_of(slots), slots)
        mended = segments_of(known.number_of[rows], times, _levels(values, meter.scale), limit_ms)
        segments = Segments.joined([apart, mended])
    ranges = RowRanges.joined([file.ranges for file in found.files]).renumbered(known.number_of)
    return GaugeReading(known.series, _marked(segments, known, found.rows_of), ranges)


def read_samples(
    series: pa.Table, slots: Int64, times_ms: Int64, values: Floats, meter: GaugeMeter, limit_ms: int
) -> GaugeReading:
    """The same of samples that are in no file: `slots[i]` is the row of `series` that sample i is of, ascending.

    `series`: columns project, collector, labels (canonical bytes).
    """
    first = np.flatnonzero(np.append(True, slots[1:] != slots[:-1])[: len(slots)])
    found, counts = slots[first], np.diff(np.append(first, len(slots)))
    nothing = np.empty(0, np.int64)
    stored = StoredValues(values, nothing, nothing.astype(np.int8), None)
    runs = FileRuns(found, counts, times_ms, stored)
    return read_gauges(steady_series(series, [runs], limit_ms), meter, limit_ms)


@dataclass(frozen=True, slots=True)
class _Known:
    """The rows of the series' table that matter."""

    series: tuple[GaugeSeries, ...]
    slots: Int64  # of each of them, its row in the table
    number_of: Int64  # the other way round; -1: not counted
    targets: Int64  # by row of the table: what was scraped
    is_up: Bools  # by row of the table

    @classmethod
    def of(cls, table: pa.Table, meter: GaugeMeter) -> _Known:
        series, slots, targets, is_up = [], [], [], []
        numbers: dict[tuple[str, str, LabelSet], int] = {}
        columns = (table.column(name).to_pylist() for name in ("project", "collector", "labels"))
        for slot, (project, collector, encoded) in enumerate(zip(*columns, strict=True)):
            labels = parse_canonical_labels(encoded)
            named = dict(labels)
            target = project, collector, tuple(label for label in labels if label[0] in {"instance", "job"})
            targets.append(numbers.setdefault(target, len(numbers)))
            is_up.append(named.get("__name__") == TARGET_UP)
            component = _component(project, named, meter)
            if component is not None:
                series.append(GaugeSeries(component, CollectorId(collector), encoded))
                slots.append(slot)
        number_of = np.full(table.num_rows, -1, np.int64)
        number_of[slots] = np.arange(len(slots))
        as_integers = (np.array(each, np.int64) for each in (slots, targets))
        chosen, scraped = as_integers
        return cls(tuple(series), chosen, number_of, scraped, np.array(is_up, np.bool_))


def _component(project: str, labels: dict[str, str], meter: GaugeMeter) -> Component | None:
    name = labels.get("component", "")
    if labels.get("__name__") != meter.metric or name not in meter.components:
        return None
    try:
        return Component(ProjectId(project), ClusterId(parse_id(labels.get("cluster", ""), "cluster")), name)
    except InvalidInput:
        return None  # no cluster to bill: the series stays in the lake, uncounted


def _segments(file: SteadyRuns, number_of: Int64, scale: int) -> Segments:
    """The counted stretches of one file; rows out of order or twice make segments that overlap."""
    series = number_of[file.slots]
    counted = np.flatnonzero(series >= 0)
    levels = _stored_levels(file.values.take(counted), scale)
    return Segments(series[counted], file.first_ms[counted], file.last_ms[counted], levels)


def _stored_levels(found: StoredValues, scale: int) -> Int64:
    if found.doubles is None:
        return levels_of_integers(found.integers, found.scales, scale)
    levels = _levels(found.doubles, scale)
    if found.is_integer is not None:
        exact = found.is_integer
        levels[exact] = levels_of_integers(found.integers[exact], found.scales[exact], scale)
    return levels


def _levels(values: Floats, scale: int) -> Int64:
    levels = levels_of(values, scale)
    levels[values.view(np.uint64) == STALE_NAN_BITS] = _MARKER
    return levels


def _rows(files: Sequence[FileRuns], slots: Int64, times_ms: Int64 | None = None) -> tuple[Int64, Int64, Floats]:
    """Slots, times and values of some series, each (series, time) once; `times_ms`: at these alone."""
    found: list[tuple[Int64, Int64, Floats]] = []
    for file in files:
        chosen = np.repeat(np.isin(file.slots, slots), file.counts)
        if times_ms is not None:
            chosen &= np.isin(file.timestamps_ms, times_ms)
        rows = np.flatnonzero(chosen)
        mine = np.repeat(file.slots, file.counts)[rows]
        found.append((mine, file.timestamps_ms[rows], file.values.take(rows).values()))
    if not found:
        nothing = np.empty(0, np.int64)
        return nothing, nothing, np.empty(0)
    which, times, values = (np.concatenate(column) for column in zip(*found, strict=True))
    kept = one_each(which, times, values)
    return which[kept], times[kept], values[kept]


def _marked(segments: Segments, known: _Known, rows_of: Callable[[Int64], Sequence[FileRuns]]) -> Segments:
    """The markers as ENDED where the target was up at that time, NOTHING elsewhere."""
    markers = np.flatnonzero(segments.levels == _MARKER)
    if not len(markers):
        return segments
    targets = known.targets[known.slots[segments.series[markers]]]
    times = segments.first_ms[markers]
    asked = np.flatnonzero(known.is_up & np.isin(known.targets, targets))
    slots, up_ms, values = _rows(rows_of(asked), asked, np.unique(times))
    alive = values == 1.0
    ended = is_among(targets, times, known.targets[slots[alive]], up_ms[alive])
    levels = segments.levels.copy()
    levels[markers] = np.where(ended, ENDED, NOTHING)
    return Segments(segments.series, segments.first_ms, segments.last_ms, levels)
