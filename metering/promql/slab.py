"""Rings of samples as the rows of two matrices, so that a rule over 10,000 series is a few array operations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metering.promql.vector import Floats, Integers

FIRST_ROWS = 16


class Slab:
    """Rings that all hold up to `capacity` samples, a power of two. A ring is named by its row.

    `rows` arguments are arrays of distinct rows; times in a ring strictly increase.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._times = np.empty((0, capacity), np.int64)
        self._values = np.empty((0, capacity), np.float64)
        self._start = np.empty(0, np.int64)
        self._count = np.empty(0, np.int64)
        self._free: list[int] = []

    @property
    def allocated_bytes(self) -> int:
        return self._times.nbytes + self._values.nbytes + self._start.nbytes + self._count.nbytes

    def growth_bytes(self, rows: int) -> int:
        """How much more memory `rows` more rings take."""
        return self._new_rows(rows) * (16 * self.capacity + 16)

    def _new_rows(self, wanted: int) -> int:
        missing = wanted - len(self._free)
        return max(missing, len(self._start) // 2, FIRST_ROWS) if missing > 0 else 0

    def allocate(self, wanted: int) -> Integers:
        """Rows of empty rings."""
        added = self._new_rows(wanted)
        if added:
            before = len(self._start)
            self._times = np.concatenate([self._times, np.zeros((added, self.capacity), np.int64)])
            self._values = np.concatenate([self._values, np.zeros((added, self.capacity))])
            self._start = np.concatenate([self._start, np.zeros(added, np.int64)])
            self._count = np.concatenate([self._count, np.zeros(added, np.int64)])
            self._free.extend(range(before + added - 1, before - 1, -1))
        return np.array([self._free.pop() for _ in range(wanted)], np.int64)

    def release(self, rows: Integers) -> None:
        """Give rings back; their samples are gone."""
        self._start[rows] = 0
        self._count[rows] = 0
        self._free.extend(rows.tolist())

    def append(self, rows: Integers, times_ms: Integers, values: Floats) -> None:
        """One sample to each ring; a full ring loses its oldest."""
        full = rows[self._count[rows] == self.capacity]
        self._start[full] = (self._start[full] + 1) & (self.capacity - 1)
        self._count[full] -= 1
        column = (self._start[rows] + self._count[rows]) & (self.capacity - 1)
        self._times[rows, column] = times_ms
        self._values[rows, column] = values
        self._count[rows] += 1

    def is_full(self, rows: Integers) -> npt.NDArray[np.bool_]:
        return np.asarray(self._count[rows] == self.capacity)

    def oldest_ms(self, rows: Integers) -> Integers:
        """Time of the oldest sample; meaningless for an empty ring."""
        return np.asarray(self._times[rows, self._start[rows]])

    def move(self, rows: Integers, target: Slab) -> Integers:
        """Move rings with their samples to a slab of at least the same capacity; returns their rows there."""
        count = self._count[rows]
        column = (self._start[rows][:, None] + np.arange(self.capacity)) & (self.capacity - 1)
        moved = target.allocate(len(rows))
        target._times[moved, : self.capacity] = self._times[rows[:, None], column]
        target._values[moved, : self.capacity] = self._values[rows[:, None], column]
        target._count[moved] = count
        self.release(rows)
        return moved

    def count_until(self, rows: Integers, at_ms: int) -> Integers:
        """How many samples of each ring have a time <= `at_ms`."""
        result = self._count[rows].copy()
        newest = self._times[rows, (self._start[rows] + result - 1) & (self.capacity - 1)]
        open_ = np.flatnonzero((result > 0) & (newest > at_ms))
        if not len(open_):
            return result
        searched = rows[open_]
        low, high = np.zeros(len(open_), np.int64), result[open_]
        for _ in range(self.capacity.bit_length()):
            middle = (low + high) >> 1
            column = (self._start[searched] + middle) & (self.capacity - 1)
            within = (middle < high) & (self._times[searched, column] <= at_ms)
            low = np.where(within, middle + 1, low)
            high = np.where(within, high, middle)
        result[open_] = low
        return result

    def gather(self, rows: Integers, first: Integers, width: int) -> Floats:
        """`width` values of each ring from its `first`th on, shape (rows, width); past the newest: garbage."""
        column = (self._start[rows] + first)[:, None] + np.arange(width)
        # flat indices and a mask instead of a remainder: capacities are powers of two
        column &= self.capacity - 1
        column += (rows * self.capacity)[:, None]
        return self._values.ravel().take(column)

    def times_at(self, rows: Integers, which: Integers) -> Integers:
        """Time of the `which`th sample of each ring."""
        return np.asarray(self._times[rows, (self._start[rows] + which) & (self.capacity - 1)])
