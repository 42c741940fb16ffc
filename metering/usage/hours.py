"""From what was read of one organization's gauges to the usage of each of its components in each hour. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np

from kernel.ids import CollectorId
from kernel.window import Window
from metering.usage.array_hours import HourTable, Steps, Views, hour_table, steps_of
from metering.usage.meter import Component
from metering.usage.places import places_of
from metering.usage.reading import GaugeReading
from metering.usage.shapes import Shape, shapes_of


class ComponentHour(NamedTuple):
    """One component in one hour, by the collector that covered it best."""

    component: Component
    collector: CollectorId | None  # None: nobody has seen it in the span
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int
    open_at_end: bool
    shape: Shape | None = None  # None: one level from end to end
    places: str | None = None  # where its samples stand, see `places`


@dataclass(frozen=True, slots=True)
class UsageHour:
    """An hour of an organization: its components in order, and the breakpoints (ms, milli-vCPU) of their sum."""

    components: Sequence[ComponentHour]
    step: Sequence[tuple[int, int]]


def component_hours(
    reading: GaugeReading, hours: Sequence[Window], limit_ms: int, open_before: frozenset[Component]
) -> list[UsageHour]:
    """Usage of consecutive `hours`.

    `reading` holds the meter's series of one organization from `limit_ms` before the first hour on; `open_before`
    the components that existed at the start. Cutting `hours` into several calls changes nothing.
    """
    components = sorted({each.component for each in reading.series} | open_before)
    numbers = {component: number for number, component in enumerate(components)}
    views = sorted({(numbers[each.component], each.collector) for each in reading.series})
    view_of = {view: number for number, view in enumerate(views)}
    edges_ms = np.array([*(hour.start_ms for hour in hours), hours[-1].end_ms], np.int64)
    seen = Views(
        np.array([view_of[numbers[each.component], each.collector] for each in reading.series], np.int64),
        np.array([component for component, _ in views], np.int64),
        len(components),
    )
    is_open = np.array([component in open_before for component in components], np.bool_)
    table = hour_table(reading.segments, seen, edges_ms, limit_ms, is_open)
    where = places_of(reading.ranges, table, seen, edges_ms)
    rows = _rows(table, components, [*(collector for _, collector in views), None], where)
    for number, shape in shapes_of(table, edges_ms).items():
        rows[number] = rows[number]._replace(shape=shape)
    steps = steps_of(table.pieces)
    bounds = np.arange(len(hours) + 1)
    row_bounds = np.searchsorted(table.hours, bounds).tolist()
    step_bounds = np.searchsorted(steps.hours, bounds).tolist()
    points = _points(steps)
    return [
        UsageHour(rows[row_bounds[at] : row_bounds[at + 1]], points[step_bounds[at] : step_bounds[at + 1]])
        for at in range(len(hours))
    ]


def _rows(
    table: HourTable,
    components: Sequence[Component],
    collectors: Sequence[CollectorId | None],
    places: Mapping[int, str],
) -> list[ComponentHour]:
    """`collectors` by view; the last is for -1. `places` by row."""
    columns = (table.integrals, table.observed_ms, table.missing_ms, table.peaks, table.open_at_end)
    named = [components[number] for number in table.components.tolist()]
    heard = [collectors[number] for number in table.views.tolist()]
    where = map(places.get, range(len(named)))
    return list(map(ComponentHour, named, heard, *(column.tolist() for column in columns), repeat(None), where))


def _points(steps: Steps) -> list[tuple[int, int]]:
    return list(zip(steps.times_ms.tolist(), steps.levels.tolist(), strict=True))
