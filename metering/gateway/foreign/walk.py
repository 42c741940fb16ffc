"""One body from its first series to its last: runs that are like a body before, and series that were read alone."""

from __future__ import annotations

import numpy as np

from metering.gateway.foreign.skeleton import Places, Rows, Series, Skeleton, join_rows

_FEW = 4  # series of a body that may be read one by one without remembering the body
_MANY = 64  # so many are matched for each that was not, in a body that is not worth remembering
Samples = list[tuple[int, int, int]]


class Walk:
    """What was found in a body, in its order."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._bytes = np.frombuffer(body, np.uint8)
        self._runs: dict[int, tuple[Skeleton, list[tuple[int, int, int]]]] = {}
        self._last_time = b""
        self.series = self.row_count = self.alone = 0
        self._begins: list[int] = []
        self._row_counts: list[int] = []
        self._numbers: list[int] = []
        self._values: list[int] = []
        self._times: list[int] = []
        self._starts: list[int] = []

    def is_time(self, at: int) -> bool:
        """Whether a varint of exactly six bytes stands here: a time between 2004 and 2109 in milliseconds."""
        six = self._body[at : at + 6]
        if six == self._last_time:
            return True
        if len(six) < 6 or six[5] >= 0x80 or min(six[:5]) < 0x80:
            return False
        self._last_time = six
        return True

    def add_one(self, position: int, number: int, value: int, time: int) -> None:
        """A series at `position` that holds one usual sample."""
        self._begins.append(position)
        self._row_counts.append(1)
        self._numbers.append(number)
        self._values.append(value)
        self._times.append(time)
        self._starts.append(-1)
        self.series += 1
        self.row_count += 1
        self.alone += 1

    def add_series(self, position: int, number: int, samples: Samples) -> None:
        """A series and the places of its samples (value, time, start); none for what is read in another way."""
        self._begins.append(position)
        self._row_counts.append(len(samples))
        for value, time, start in samples:
            self._numbers.append(number)
            self._values.append(value)
            self._times.append(time)
            self._starts.append(start)
        self.series += 1
        self.row_count += len(samples)
        self.alone += 1

    def usual_samples(self, position: int, end: int) -> Samples | None:
        """The places of samples that fill `[position, end)`, or None if anything else is there."""
        body, found = self._body, []
        while position < end:
            if body[position] != 0x12 or position + 9 > end:
                return None
            place, stop = position + 2, position + 2 + body[position + 1]
            value = -1
            if stop <= end and stop - place >= 16 and body[place] == 0x09:
                value, place = place + 1, place + 9
            if stop > end or stop - place not in {7, 14} or body[place] != 0x10 or not self.is_time(place + 1):
                return None
            start = -1
            if stop - place == 14:
                start = place + 8
                if body[place + 7] != 0x18 or not self.is_time(start):
                    return None
            found.append((value, place + 1, start))
            position = stop
        return found

    def follow(self, skeleton: Skeleton, series: int, position: int) -> int:
        """Take the run that goes on behind `series` of a body before; the position after it."""
        following = series + 1
        if following >= len(skeleton):
            return position
        # Cheaper than to try in vain: the labels of the next series must be those of the next series there.
        if not self._body.startswith(skeleton.head(following), position):
            return position
        begin = skeleton.bounds.item(following)
        last = skeleton.match(self._bytes, position, following)
        if last == following:
            return position
        known = self._runs.get(id(skeleton))
        if known is None:
            known = self._runs[id(skeleton)] = (skeleton, [])
        known[1].append((following, last, position - begin))
        self.series += last - following
        self.row_count += int(skeleton.row_bounds[last] - skeleton.row_bounds[following])
        after: int = skeleton.bounds[last].item() - begin
        return position + after

    def rows(self) -> Rows:
        """All samples of usual form, in the order of the body."""
        parts = [_rows_of(skeleton, runs) for skeleton, runs in self._runs.values()]
        if self._numbers:
            values, times = np.array(self._values, np.int64), np.array(self._times, np.int64)
            starts = np.array(self._starts, np.int64) if max(self._starts) >= 0 else None
            parts.append(Rows(np.array(self._numbers, np.int32), values, times, starts))
        return join_rows(parts)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether many series had to be read alone, so that the next body should be compared with this one."""
        return self.alone > _FEW + self.series // _MANY

    def series_of(self, rows: Rows) -> Series:
        """Where the series are; `rows` are those of `rows()`."""
        begins, counts = [np.array(self._begins, np.int64)], [np.array(self._row_counts, np.int64)]
        for skeleton, runs in self._runs.values():
            places, moved = _ranges(runs)
            begins.append(skeleton.bounds[places] + moved)
            counts.append(skeleton.row_counts[places])
        joined = np.concatenate(begins)
        order = joined.argsort(kind="stable")
        return Series(joined[order], np.concatenate(counts)[order], rows)


def _ranges(runs: list[tuple[int, int, int]]) -> tuple[Places, Places]:
    """Every number of every run `[first, last)`, and by how much its bytes are moved."""
    first, last, by = np.array(runs, np.int64).T
    counts = last - first
    ends = counts.cumsum()
    return np.repeat(first - ends + counts, counts) + np.arange(ends[-1]), np.repeat(by, counts)


def _rows_of(skeleton: Skeleton, runs: list[tuple[int, int, int]]) -> Rows:
    bounds = skeleton.row_bounds
    if len(runs) == 1:
        first, last, by = runs[0]
        return skeleton.rows.take(slice(int(bounds[first]), int(bounds[last])), by)
    return skeleton.rows.take(*_ranges([(int(bounds[first]), int(bounds[last]), by) for first, last, by in runs]))
