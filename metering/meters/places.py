"""Where the samples of a meter's rows stand: of each file its hash, row group, and rows in it. Pure, numpy.

As text like that of `metering.usage.places`. A row of a meter may be made of hundreds of series, which stand apart
in a file that is sorted by series: then the first and the last of all of them are told, and how many there are, as
`hash:group:first-last/count`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.window import HOUR_MS
from metering.lake.steady import RowRanges
from metering.meters.series import SeriesKey
from metering.usage.places import file_digits, render_place


class Counted(NamedTuple):
    """Series that count in a row in some hours of a run."""

    keys: Sequence[SeriesKey]
    hours: npt.NDArray[np.bool_]  # by number of the hour


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the samples of a run of hours stand, by series."""

    numbers: Mapping[SeriesKey, int]  # slots of the ranges
    ranges: RowRanges

    @classmethod
    def of(cls, series: pa.Table, ranges: RowRanges) -> Placed:
        """`series`: see `Lake.series`; slots of `ranges` are its rows."""
        owners = zip(*(series.column(name).to_pylist() for name in ("project", "collector", "labels")), strict=True)
        numbers = {
            (project, collector, labels.decode("utf-8", "surrogateescape")): number
            for number, (project, collector, labels) in enumerate(owners)
        }
        return cls(numbers, ranges)

    def of_rows(self, rows: Sequence[Iterable[Counted]], start_ms: int) -> Mapping[tuple[int, int], str]:
        """By number of the row's key and of the hour, for those of which places are known.

        Each series counts for one key; hours are counted from the one that starts at `start_ms`.
        """
        counts: dict[int, npt.NDArray[np.bool_]] = {}
        key_of = np.full(max(self.numbers.values(), default=-1) + 1, -1, np.int64)
        for number, counted in enumerate(rows):
            for slot, hours in self._slots(counted):
                counts[slot] = hours
                key_of[slot] = number
        if not counts:
            return {}
        mine = self.ranges.renumbered(np.where(key_of >= 0, np.arange(len(key_of)), -1))
        slots = np.array(sorted(counts), np.int64)
        hours = np.stack([counts[slot] for slot in slots.tolist()])
        numbers = mine.hours - start_ms // HOUR_MS
        inside = (numbers >= 0) & (numbers < hours.shape[1])
        inside[inside] = hours[np.searchsorted(slots, mine.slots[inside]), numbers[inside]]
        return _texts(mine, key_of[mine.slots], numbers, np.flatnonzero(inside))

    def _slots(self, counted: Iterable[Counted]) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        for keys, hours in counted:
            for key in keys:
                if (slot := self.numbers.get(key)) is not None:
                    yield slot, hours


NOWHERE = Placed({}, RowRanges.joined([]))


def _texts(ranges: RowRanges, keys: Any, hours: Any, chosen: Any) -> dict[tuple[int, int], str]:
    """One place for each key, hour, file and row group."""
    where = keys[chosen], hours[chosen], ranges.of_file[chosen], ranges.row_groups[chosen]
    order = np.lexsort(where[::-1])
    where, chosen = tuple(column[order] for column in where), chosen[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = np.any([column[1:] != column[:-1] for column in where], axis=0)
    starts = np.flatnonzero(is_first)
    if not len(starts):
        return {}
    firsts, counts = ranges.firsts[chosen], ranges.counts[chosen]
    columns = (
        *(column[starts] for column in where),
        np.minimum.reduceat(firsts, starts),
        np.maximum.reduceat(firsts + counts - 1, starts),
        np.add.reduceat(counts, starts),
    )
    digits = [file_digits(name) for name in ranges.files]
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key, hour, file, group, *rows in zip(*(column.tolist() for column in columns), strict=True):
        found[key, hour].append(render_place(digits[file], group, *rows))
    return {row: " ".join(texts) for row, texts in found.items()}
