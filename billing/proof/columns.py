"""Samples of kept frames by column, and the hours that the vendor's own arithmetic makes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.window import DAY_MS, Window
from metering.usage.hours import UsageHour, component_hours
from metering.usage.meter import LICENCE_METER, Component
from metering.usage.reading import read_samples

Integers = npt.NDArray[np.int64]
_MOST_SMALL = np.iinfo(np.uint16).max
Computed = Mapping[Window, UsageHour]


@dataclass
class Columns:
    """Samples by UTC day. `series` are numbers of `labels` and `owners` of all spools together."""

    labels: list[bytes] = field(default_factory=list)
    owners: list[tuple[str, str]] = field(default_factory=list)
    days: dict[int, list[tuple[Integers, Integers, npt.NDArray[np.float64]]]] = field(default_factory=dict)
    starts: list[tuple[Integers, Integers, Integers]] = field(default_factory=list)  # series, ms, when told
    count: int = 0

    def add(self, series: Integers, times_ms: Integers, values: npt.NDArray[np.float64]) -> None:
        days = times_ms // DAY_MS
        self.count += len(series)
        first = int(days[0])
        if (days == first).all():
            self.days.setdefault(first, []).append((series, times_ms, values))
            return
        for day in np.unique(days).tolist():
            chosen = days == day
            self.days.setdefault(day, []).append((series[chosen], times_ms[chosen], values[chosen]))

    def add_starts(self, series: Integers, starts_ms: Integers, seen_ms: int) -> None:
        """When counters began, as a scrape told."""
        self.starts.append((series, starts_ms, np.full(len(series), seen_ms, np.int64)))

    def between(self, start_ms: int, end_ms: int) -> tuple[Integers, Integers, npt.NDArray[np.float64]]:
        """The samples in `[start_ms, end_ms)`, by series, then time."""
        days = range(start_ms // DAY_MS, (end_ms - 1) // DAY_MS + 1)
        parts = [part for day in days for part in self.days.get(day, ())]
        if not parts:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        series, times, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        inside = (times >= start_ms) & (times < end_ms)
        series, times, values = series[inside], times[inside], values[inside]
        order = _order(series, times)
        return series[order], times[order], values[order]


def _order(series: Integers, times_ms: Integers) -> npt.NDArray[np.intp]:
    """By series, then time. Frames come in the order of time, mostly: then a radix sort of the series is enough."""
    if (times_ms[1:] >= times_ms[:-1]).all():
        is_small = len(series) and int(series.max()) <= _MOST_SMALL
        return np.argsort(series.astype(np.uint16) if is_small else series, kind="stable")
    return np.lexsort((times_ms, series))


def computed_hours(
    columns: Columns,
    hours: Sequence[Window],
    limit_ms: int,
    open_before: frozenset[Component],
    without: Collection[str] = (),
) -> Computed:
    """Usage of consecutive hours as the vendor computes it; a sample holds at most `limit_ms`.

    `without`: projects whose samples are left out.
    """
    series, times, values = columns.between(hours[0].start_ms - limit_ms, hours[-1].end_ms)
    if without:
        kept = np.array([project not in without for project, _ in columns.owners], np.bool_)[series]
        series, times, values = series[kept], times[kept], values[kept]
    table = pa.table(
        {
            "project": [project for project, _ in columns.owners],
            "collector": [collector for _, collector in columns.owners],
            "labels": columns.labels,
        }
    )
    reading = read_samples(table, series, times, values, LICENCE_METER, limit_ms)
    found = component_hours(reading, hours, limit_ms, open_before)
    return dict(zip(hours, found, strict=True))
