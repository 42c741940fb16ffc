"""Sets of numbers that are mostly runs: as sorted, disjoint, inclusive intervals."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """Which numbers are settled. Cheap while the runs are few, however many the numbers."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add `first` to `last`, both included. ValueError when they are in the wrong order."""
        last = first if last is None else last
        if last < first:
            raise ValueError(f"{first} to {last} is no range")
        start = bisect_right(self._lasts, first - 2)  # the first run that touches or follows
        stop = bisect_right(self._firsts, last + 1)
        if start < stop:
            first, last = min(first, self._firsts[start]), max(last, self._lasts[stop - 1])
        self._firsts[start:stop] = [first]
        self._lasts[start:stop] = [last]

    def missing(self, first: int, last: int) -> list[tuple[int, int]]:
        """The runs of [first, last] that are not in the set."""
        found, at = [], first
        for low, high in self:
            if high < at:
                continue
            if low > last:
                break
            if low > at:
                found.append((at, low - 1))
            at = high + 1
        if at <= last:
            found.append((at, last))
        return found

    @property
    def highest(self) -> int:
        """The greatest number; 0 when there is none."""
        return self._lasts[-1] if self._lasts else 0

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __len__(self) -> int:
        """How many runs."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Intervals) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Intervals({list(self)})"
