"""Rows of the lake's files as stretches of equal values, for readers that need no rows: a steady gauge is a few.

And where the rows of each hour stand: a revision of usage names them. Two ways to the same: from rows (numpy), and
from the coded columns by the compiled kernel, without a row in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kernel.window import HOUR_MS, Window
from metering.lake.rows import Integers
from metering.lake.runs import FileRuns
from metering.lake.stored_values import StoredValues

_SEGMENT, _RANGE = 5, 4  # numbers of the kernel for each
_EARLIEST = -(1 << 62)  # a time


class Group(NamedTuple):
    """A row group of a file."""

    location: str
    number: int


@dataclass(frozen=True, slots=True)
class RowRanges:
    """`counts[i]` rows from `firsts[i]` on (0: the row group's first) are of the series `slots[i]` in that hour.

    `hours` are numbered since 1970; `of_file[i]` is an index into `files`, `row_groups[i]` a row group of it.
    """

    slots: Integers
    hours: Integers
    row_groups: Integers
    firsts: Integers
    counts: Integers
    of_file: Integers
    files: tuple[str, ...]  # locations

    def renumbered(self, number_of: Integers) -> RowRanges:
        """With `number_of[slot]` in the place of each slot; those below zero are gone."""
        numbers = number_of[self.slots]
        kept = np.flatnonzero(numbers >= 0)
        return RowRanges(
            numbers[kept],
            self.hours[kept],
            self.row_groups[kept],
            self.firsts[kept],
            self.counts[kept],
            self.of_file[kept],
            self.files,
        )

    @classmethod
    def joined(cls, parts: Sequence[RowRanges]) -> RowRanges:
        """All of them; files are numbered anew."""
        files = sorted({name for part in parts for name in part.files})
        numbers = {name: number for number, name in enumerate(files)}
        nothing = np.empty(0, np.int64)
        moved = [np.array([numbers[name] for name in part.files], np.int64)[part.of_file] for part in parts]

        def column(name: str) -> Integers:
            return np.concatenate([nothing, *(getattr(part, name) for part in parts)])

        return cls(
            column("slots"),
            column("hours"),
            column("row_groups"),
            column("firsts"),
            column("counts"),
            np.concatenate([nothing, *moved]),
            tuple(files),
        )


@dataclass(frozen=True, slots=True)
class SteadyRuns:
    """Rows of one file as they stand; neighbours of a series with equal values, each at most the limit and at least
    1 ms after the one before, are one stretch. A NaN (a marker too) is one of its own.

    Columns of one length: the series' row in its table (-1 does not occur), the times of the first and the last
    sample (ms), the value.
    """

    slots: Integers
    first_ms: Integers
    last_ms: Integers
    values: StoredValues
    ranges: RowRanges

    @classmethod
    def joined(cls, parts: Sequence[SteadyRuns]) -> SteadyRuns:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        nothing = np.empty(0, np.int64)
        return cls(
            np.concatenate([nothing, *(part.slots for part in parts)]),
            np.concatenate([nothing, *(part.first_ms for part in parts)]),
            np.concatenate([nothing, *(part.last_ms for part in parts)]),
            StoredValues.joined([part.values for part in parts]),
            RowRanges.joined([part.ranges for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class SteadySeries:
    """What a window holds: the series (see `Lake.series`), and their stretches file by file.

    Rows of one series may stand in several files and overlap, and one (series, time) may occur twice:
    `rows_of(slots)` reads the rows of some series again, one by one.
    """

    series: pa.Table
    files: Sequence[SteadyRuns]
    rows_of: Callable[[Integers], Sequence[FileRuns]]


def steady_series(series: pa.Table, files: Sequence[FileRuns], limit_ms: int) -> SteadySeries:
    """Of rows that are at hand, and stand in no file: there are no ranges of them."""
    always, nowhere = Window(_EARLIEST, -_EARLIEST), RowRanges.joined([])
    found = [replace(steady_of(file, Group("", 0), always, limit_ms), ranges=nowhere) for file in files]
    return SteadySeries(series, found, lambda _: files)


def steady_of(file: FileRuns, group: Group, reach: Window, limit_ms: int) -> SteadyRuns:
    """The stretches of a row group's rows that are inside `reach` and were asked for."""
    ranges = ranges_of(file, group, reach)
    file = file.within(reach)
    times = file.timestamps_ms
    run_starts = np.cumsum(file.counts) - file.counts
    keys, kinds = _comparable(file.values)
    # One comparison for both ends: a step below 1 is far above every limit when it is read without a sign.
    is_first = np.ones(len(times), np.bool_)
    is_first[1:] = (times[1:] - times[:-1] - 1).view(np.uint64) >= np.uint64(limit_ms)
    for column in (keys, kinds):
        if column is not None:
            is_first[1:] |= column[1:] != column[:-1]
    is_first[run_starts] = True
    doubles = file.values.doubles
    if doubles is not None:
        unordered = np.isnan(doubles)  # a marker is a row of its own, and so is what follows it
        is_first |= unordered
        is_first[1:] |= unordered[:-1]
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(times))[: len(first)] - 1
    slots = file.slots[np.searchsorted(run_starts, first, side="right") - 1]
    return SteadyRuns(slots, times[first], times[last], file.values.take(first), ranges)


def steady_of_kernel(slots: Integers, segments: bytes, ranges: bytes, group: Group) -> SteadyRuns:
    """The same from what the kernel gives of a row group; `slots` are those of its numbers of series."""
    number, first, last, value, kind = np.frombuffer(segments, np.int64).reshape(-1, _SEGMENT).T.copy()
    of, hours, firsts, counts = np.frombuffer(ranges, np.int64).reshape(-1, _RANGE).T.copy()
    is_integer = kind >= 0
    all_are = bool(is_integer.all())
    values = StoredValues(
        None if all_are else np.where(is_integer, 0, value).view(np.float64),
        value,
        np.maximum(kind, 0).astype(np.int8),
        None if all_are else is_integer,
    )
    return SteadyRuns(slots[number], first, last, values, _named(slots[of], hours, firsts, counts, group))


def ranges_of(file: FileRuns, group: Group, reach: Window) -> RowRanges:
    """Where the rows of a row group stand that are inside `reach` and were asked for."""
    times = file.timestamps_ms
    slots = np.repeat(file.slots, file.counts)
    rows = np.flatnonzero((times >= reach.start_ms) & (times < reach.end_ms) & (slots >= 0))
    hours, slots = times[rows] // HOUR_MS, slots[rows]
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = (hours[1:] != hours[:-1]) | (slots[1:] != slots[:-1]) | (rows[1:] != rows[:-1] + 1)
    first = np.flatnonzero(is_first)
    counts = np.diff(np.append(first, len(rows)))
    return _named(slots[first], hours[first], rows[first], counts, group)


def _named(slots: Integers, hours: Integers, firsts: Integers, counts: Integers, group: Group) -> RowRanges:
    row_groups = np.full(len(slots), group.number, np.int64)
    return RowRanges(slots, hours, row_groups, firsts, counts, np.zeros(len(slots), np.int64), (group.location,))


def _comparable(stored: StoredValues) -> tuple[Integers, Any]:
    """Two columns that are equal in neighbouring rows exactly if their values are stored alike."""
    if stored.doubles is None:
        scales = stored.scales
        return stored.integers, scales if len(scales) and scales.min() != scales.max() else None
    bits = stored.doubles.view(np.int64)
    if stored.is_integer is None:
        return bits, None
    return np.where(stored.is_integer, stored.integers, bits), np.where(
        stored.is_integer, stored.scales, np.int8(-1)
    )
