"""The rows of every charged meter computed again from kept frames, and held against those in the bundle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from billing.proof.columns import Columns, Integers
from billing.proof.compared import Given
from billing.proof.metered import StatedMeter
from kernel.window import DAY_MS, HOUR_MS, Window, hour_of
from metering.meters.arithmetic import Starts
from metering.meters.catalogue import Meter
from metering.meters.hours import FORGOTTEN_MS, MeterHour, RowHour, meter_hours
from metering.meters.sealed import SealedRow, render_dimensions, render_figures
from metering.meters.series import Carry, SeriesKey, series_of_samples

_Key = tuple[int, str, str, str]  # start of the hour, project, cluster, dimensions


@dataclass(frozen=True, slots=True)
class Spared:
    """Rows that may differ: of projects with a collector whose spool was not given, of files with a backfill."""

    projects: frozenset[str]
    sources: frozenset[str]

    def why(self, project: str, sources: tuple[str, ...]) -> str | None:
        """None: it may not."""
        if project in self.projects:
            return "another collector, whose spool was not given, may have seen more"
        if self.sources.intersection(sources):
            return "their files hold a backfill, whose frames are not kept"
        return None


def compare_meters(given: Given, used: Columns, before: Columns, spared: Spared) -> tuple[list[str], list[str]]:
    """What was proved and what was not. Raises InvalidInput naming file and line of the first row that differs.

    `used`: samples of the period's pushes, from hours in it; `before`: those of the time before.
    """
    proved, left = [], Counter[str]()
    for stated in given.meters:
        compared = _Compared(given, stated, spared, left)
        for hour, found in _hours(stated, given, used, before):
            compared.compare(hour, found)
        compared.conclude()
        many = f"{compared.equal} of {compared.count}"
        proved.append(f"meters: {stated.meter.meter}: {many} rows of {stated.file} recomputed from the frames")
    return proved, [f"meters: {count} rows of {why}" for why, count in sorted(left.items())]


class _Compared:
    """One meter's rows against hours that were computed again."""

    def __init__(self, given: Given, stated: StatedMeter, spared: Spared, left: Counter[str]) -> None:
        self._given, self._stated, self._spared, self._left = given, stated, spared, left
        self._rows: dict[int, dict[_Key, tuple[int, SealedRow]]] = defaultdict(dict)
        self._after: dict[tuple[str, str, str], str] = {}  # groups that go on from hours that may differ, and why
        self.count = self.equal = 0
        for line, row in stated.inside():
            key = row.hour_ms, row.project, row.cluster, row.dimensions
            if key in self._rows[row.hour_ms]:
                raise given.wrong(stated.file, f"row {line}", "a row twice", "each once in an hour")
            self._rows[row.hour_ms][key] = line, row
            self.count += 1

    def compare(self, hour: Window, found: MeterHour) -> None:
        known = self._rows.pop(hour.start_ms, {})
        for one in found.rows:
            key = hour.start_ms, one.key.project, one.key.cluster, render_dimensions(one)
            mine = known.pop(key, None)
            if mine is None:
                if not self._excuse(one.key.project, self._spared.why(one.key.project, ())):
                    where = f"{one.key.cluster} {key[3]}, hour of {hour.start.isoformat()}"
                    allowed = f"{render_figures(one)}, by the kept frames"
                    raise self._given.wrong(self._stated.file, where, "no row", allowed)
                continue
            self._check(*mine, one)
        for line, row in known.values():
            self._missing(line, row)

    def conclude(self) -> None:
        """Rows of hours that were not computed: there are none, unless they lie outside the period."""
        for of_hour in self._rows.values():
            for line, row in of_hour.values():
                self._missing(line, row)

    def _check(self, line: int, row: SealedRow, one: RowHour) -> None:
        computed = render_figures(one)
        why = self._why(row, is_seen=bool(one.points) or any(piece.observed_ms for piece in one.pieces))
        if row.figures == computed:
            self.equal += 1
        elif not self._excuse(row.project, why):
            allowed = f"{computed}, by the kept frames"
            raise self._given.wrong(self._stated.file, f"row {line}", row.figures, allowed)

    def _missing(self, line: int, row: SealedRow) -> None:
        if not self._excuse(row.project, self._why(row, is_seen=False)):
            allowed = "rows of what the kept frames hold"
            raise self._given.wrong(self._stated.file, f"row {line}", row.figures, allowed)

    def _why(self, row: SealedRow, *, is_seen: bool) -> str | None:
        """Why a row may differ: its hour may, or one that its group goes on from, until it `is_seen` again."""
        group = row.project, row.cluster, row.dimensions
        why, before = self._spared.why(row.project, row.sources), self._after.get(group)
        if why is not None:
            self._after[group] = why
        elif is_seen:
            self._after.pop(group, None)
        return why or before

    def _excuse(self, project: str, why: str | None) -> bool:
        if why is not None:
            self._left[f"meter {self._stated.meter.meter} of project {project}: {why}"] += 1
        return why is not None


def _hours(stated: StatedMeter, given: Given, used: Columns, before: Columns) -> Iterator[tuple[Window, MeterHour]]:
    """Every hour that touches the window, computed day by day as the vendor does, with what was carried into it.

    By the definition that made the rows of each hour.
    """
    window, carried, starts = stated.window, dict[SeriesKey, Carry](), _starts(used)
    first_ms, end_ms = hour_of(window.start_ms).start_ms, -(-window.end_ms // HOUR_MS) * HOUR_MS
    begun_ms = _first_day(first_ms, before)
    days = range(begun_ms - begun_ms % DAY_MS, end_ms, DAY_MS)
    for span in Window(begun_ms, end_ms).split([*days, first_ms, *(at_ms for at_ms, _ in stated.definitions)]):
        meter = stated.at(span.start_ms)
        if meter is None:
            continue  # the vendor has no hours of it, and carries nothing
        columns = before if span.start_ms < first_ms else used
        for hour, found in _day(meter, given, (columns, starts), (span.start_ms, span.end_ms), carried):
            if hour.start_ms >= first_ms:
                yield hour, found
            carried = dict(found.state)


def _first_day(first_ms: int, before: Columns) -> int:
    """The first of the days that are remembered which has a sample."""
    since_ms = (first_ms - FORGOTTEN_MS) // DAY_MS * DAY_MS
    days = [day * DAY_MS for day in before.days if since_ms <= day * DAY_MS < first_ms]
    return min(days, default=first_ms)


def _day(
    meter: Meter,
    given: Given,
    read: tuple[Columns, Mapping[int, Starts]],
    span: tuple[int, int],
    carried: Mapping[SeriesKey, Carry],
) -> Iterator[tuple[Window, MeterHour]]:
    columns, starts = read
    owned = [(*owner, labels) for owner, labels in zip(columns.owners, columns.labels, strict=True)]
    series = series_of_samples(owned, columns.between(*span), starts)
    hours = [Window(at_ms, at_ms + HOUR_MS) for at_ms in range(*span, HOUR_MS)]
    yield from zip(hours, meter_hours(meter, series, carried, hours, given.evidence.limit_ms), strict=True)


def _starts(columns: Columns) -> dict[int, Starts]:
    """When counters began, by number of the series: each start once, with the first scrape that told it."""
    if not columns.starts:
        return {}
    which, begun, seen = (np.concatenate(column) for column in zip(*columns.starts, strict=True))
    kept = (begun > 0) & (begun <= seen)
    which, begun, seen = which[kept], begun[kept], seen[kept]
    order = np.lexsort((seen, begun, which))
    which, begun, seen = which[order], begun[order], seen[order]
    first = np.append(True, (which[1:] != which[:-1]) | (begun[1:] != begun[:-1]))[: len(which)]
    which, begun, seen = which[first], begun[first], seen[first]
    bounds = np.flatnonzero(np.append(True, which[1:] != which[:-1]))[: len(which)]
    ends: Integers = np.append(bounds[1:], len(which))
    found = {}
    for start, end in zip(bounds.tolist(), ends.tolist(), strict=True):
        by_time = np.lexsort((begun[start:end], seen[start:end]))
        found[int(which[start])] = Starts(begun[start:end][by_time], seen[start:end][by_time])
    return found
