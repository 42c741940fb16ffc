"""Rings of samples by series slot: each series lives in the slab whose capacity its retention needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from metering.promql.limits import HeadLimits, Reason
from metering.promql.slab import Slab
from metering.promql.vector import Floats, Integers

SMALLEST, LARGEST = 16, 65_536
_NEVER = np.iinfo(np.int64).min


class Rings:
    """Slots with rings of samples. Grows a ring that is full of samples inside the retention.

    When the memory limit forbids that, the oldest sample gives way and is counted.
    """

    def __init__(self, limits: HeadLimits, refused: Counter[Reason]) -> None:
        self._limits = limits
        self._refused = refused
        self._label_bytes = 0
        self._slabs = [Slab(SMALLEST)]
        self._slab_of = np.empty(0, np.int8)
        self._row_of = np.empty(0, np.int64)
        self._newest = np.empty(0, np.int64)
        self._owner = np.empty(0, np.int64)
        self._free: list[int] = []

    @property
    def allocated_bytes(self) -> int:
        return sum(slab.allocated_bytes for slab in self._slabs) + 25 * len(self._newest) + self._label_bytes

    def open(self, label_bytes: int) -> int:
        """A slot with an empty ring, its labels taking `label_bytes`; -1 when the memory limit forbids it."""
        if self.allocated_bytes + label_bytes + self._slabs[0].growth_bytes(1) > self._limits.bytes:
            return -1
        self._label_bytes += label_bytes
        if not self._free:
            before, added = len(self._newest), max(64, len(self._newest) // 2)
            self._slab_of = np.concatenate([self._slab_of, np.full(added, -1, np.int8)])
            self._row_of = np.concatenate([self._row_of, np.zeros(added, np.int64)])
            self._newest = np.concatenate([self._newest, np.full(added, _NEVER)])
            self._owner = np.concatenate([self._owner, np.full(added, -1, np.int64)])
            self._free.extend(range(before + added - 1, before - 1, -1))
        slot = self._free.pop()
        self._slab_of[slot] = 0
        self._row_of[slot] = self._slabs[0].allocate(1)[0]
        self._newest[slot], self._owner[slot] = _NEVER, -1
        return slot

    def close(self, slot: int, label_bytes: int) -> None:
        """Give a slot back."""
        self._label_bytes -= label_bytes
        self._slabs[self._slab_of[slot]].release(self._row_of[slot : slot + 1])
        self._slab_of[slot] = -1
        self._free.append(slot)

    def silent_since(self, before_ms: int) -> Integers:
        """Slots whose newest sample is older than that."""
        return np.flatnonzero((self._slab_of >= 0) & (self._newest < before_ms))

    def append(self, slots: Integers, times_ms: Integers, values: Floats, owner: int) -> int:
        """Samples in their order, several of a slot allowed; returns how many were kept."""
        return sum(
            self._append_round(slots[chosen], times_ms[chosen], values[chosen], owner) for chosen in _rounds(slots)
        )

    def _append_round(self, slots: Integers, times_ms: Integers, values: Floats, owner: int) -> int:
        newest = self._newest[slots]
        newer = times_ms > newest
        silent = (newest == _NEVER) | (newest < times_ms - self._limits.takeover_ms)
        owned = (self._owner[slots] == owner) | silent
        self._refused[Reason.OUT_OF_ORDER] += int((~newer).sum())
        self._refused[Reason.OTHER_COLLECTOR] += int((newer & ~owned).sum())
        chosen = np.flatnonzero(newer & owned)
        slots, times_ms, values = slots[chosen], times_ms[chosen], values[chosen]
        self._owner[slots] = owner
        self._newest[slots] = times_ms
        self._grow(slots, times_ms)
        for position, slab, rows in self._by_slab(slots):
            slab.append(rows, times_ms[position], values[position])
        return len(slots)

    def _grow(self, slots: Integers, times_ms: Integers) -> None:
        """Move full rings one slab up; those that can't move lose a sample inside the retention."""
        for position, slab, rows in list(self._by_slab(slots)):
            needed = slab.is_full(rows) & (slab.oldest_ms(rows) > times_ms[position] - self._limits.retention_ms)
            if not needed.any():
                continue
            target = self._above(slab, int(needed.sum()))
            if target is None:
                self._refused[Reason.BYTES_LIMIT] += int(needed.sum())
                continue
            moved = slots[position[needed]]
            self._row_of[moved] = slab.move(rows[needed], target)
            self._slab_of[moved] = self._slabs.index(target)

    def _above(self, slab: Slab, rings: int) -> Slab | None:
        """The slab of twice the capacity, when it may take so many rings more."""
        index = self._slabs.index(slab) + 1
        if index == len(self._slabs):
            if slab.capacity >= LARGEST:
                return None
            self._slabs.append(Slab(2 * slab.capacity))
        fits = self.allocated_bytes + self._slabs[index].growth_bytes(rings) <= self._limits.bytes
        return self._slabs[index] if fits else None

    def _by_slab(self, slots: Integers) -> Iterator[tuple[Integers, Slab, Integers]]:
        """(positions in `slots`, slab, rows there) for each slab that holds some."""
        slabs = self._slab_of[slots]
        for index, slab in enumerate(self._slabs):
            position = np.flatnonzero(slabs == index)
            if len(position):
                yield position, slab, self._row_of[slots[position]]

    def newest(self, slots: Integers, at_ms: int) -> tuple[Integers, Floats]:
        """Time and value of the last sample at or before `at_ms`; the smallest integer for none."""
        times, values = np.full(len(slots), _NEVER), np.zeros(len(slots))
        for position, slab, rows in self._by_slab(slots):
            count = slab.count_until(rows, at_ms)
            some = np.flatnonzero(count)
            last = count[some] - 1
            times[position[some]] = slab.times_at(rows[some], last)
            values[position[some]] = slab.gather(rows[some], last, 1)[:, 0]
        return times, values

    def bounds(self, slots: Integers, after_ms: int, until_ms: int) -> tuple[Integers, Integers]:
        """Index of the first sample in `(after, until]` and how many there are, for each slot."""
        first, counts = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
        for position, slab, rows in self._by_slab(slots):
            first[position] = slab.count_until(rows, after_ms)
            counts[position] = slab.count_until(rows, until_ms) - first[position]
        return first, counts

    def window(self, slots: Integers, first: Integers, width: int) -> Floats:
        """`width` values of each slot from its `first`th on; shape (slots, width)."""
        values = np.zeros((len(slots), width))
        for position, slab, rows in self._by_slab(slots):
            if len(position) == len(slots) and width <= slab.capacity:
                return slab.gather(rows, first, width)
            reach = min(width, slab.capacity)
            values[position, :reach] = slab.gather(rows, first[position], reach)
        return values

    def times_at(self, slots: Integers, which: Integers) -> Integers:
        """Time of the `which`th sample of each slot."""
        times = np.zeros(len(slots), np.int64)
        for position, slab, rows in self._by_slab(slots):
            times[position] = slab.times_at(rows, which[position])
        return times


def _rounds(slots: Integers) -> Iterator[Integers]:
    """Positions in rounds: each round names a slot once, and a slot's samples come in their order."""
    if len(slots) == 0:
        return
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(slots)), 0))
    rank = np.arange(len(slots)) - first
    for turn in range(int(rank.max()) + 1):
        yield order[rank == turn]
