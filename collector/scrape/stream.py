"""The series of one target in one lane, by slot: columns that frames are made of, and no object per series."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.scrape.series import Admitted
from collector.wire.frames import Block, EntryTable, StreamEncoder, Tick

Slots = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
NO_SLOTS: Slots = np.empty(0, np.int32)

# Numbers of streams are unique within the process, so within every group.
_numbers = itertools.count(1)


class SlotIndex:
    """Slots by the hash of their labels: sorted arrays, 12 bytes a series."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.int64)
        self._slots = NO_SLOTS

    def find(self, hashes: npt.NDArray[np.int64]) -> list[list[int]]:
        """The slots that have each hash; nearly always none or one."""
        first = np.searchsorted(self._hashes, hashes, "left")
        last = np.searchsorted(self._hashes, hashes, "right")
        slots = self._slots
        return [
            slots[start:end].tolist() if end > start else []
            for start, end in zip(first.tolist(), last.tolist(), strict=True)
        ]

    def add(self, hashes: npt.NDArray[np.int64], slots: Slots) -> None:
        order = np.argsort(hashes, kind="stable")
        at = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, at, hashes[order])
        self._slots = np.insert(self._slots, at, slots[order])

    def remove(self, is_gone: Bools) -> None:
        """Forget the slots for which `is_gone`, by slot, is true."""
        kept = ~is_gone[self._slots]
        self._hashes, self._slots = self._hashes[kept], self._slots[kept]


class Stream:
    """One lane of one target. Arrays by slot are at least as long as the table's capacity."""

    def __init__(self) -> None:
        self.table = EntryTable()
        self.encoder = StreamEncoder(next(_numbers), self.table)
        self.index = SlotIndex()
        self.values = np.empty(0)
        self.origins = np.empty(0, np.int64)
        self.families = np.empty(0, np.int32)
        self.collided = np.empty(0, np.bool_)
        self.sent = np.empty(
            0, np.bool_
        )  # in the last stored scrape, without a time of its own: these can go stale
        self.reported = np.empty(0, np.bool_)  # series about the scrape
        self.unlisted: list[tuple[int, int]] = []  # (slot, family) of series that the ledger does not have yet
        self.freed: list[Slots] = []  # since the last tick
        self.born: list[Slots] = []
        self.is_outstanding = False  # a tick was encoded and is not known to be stored

    @property
    def capacity(self) -> int:
        return self.table.capacity

    def find(self, some: Sequence[Admitted]) -> list[int]:
        """The slot of each series, -1 where there is none. A series of another origin makes its slot collide."""
        hashes = np.array([hash(one.entry[1:]) for one in some], np.int64)
        found = []
        for one, slots in zip(some, self.index.find(hashes), strict=True):
            slot = next((slot for slot in slots if self.table.entry(slot)[1:] == one.entry[1:]), -1)
            if slot >= 0 and int(self.origins[slot]) != one.origin:
                self.collided[slot] = True
            found.append(slot)
        return found

    def retyped(self, slot: int, one: Admitted) -> bool:
        """Whether the series in this slot has another type now."""
        return self.table.entry(slot)[:1] != one.entry[:1]

    def give_up(self, slot: int) -> None:
        """The series of this slot goes on in another one: here it ends without a stale marker."""
        gone = np.zeros(self.capacity, np.bool_)
        gone[slot] = True
        self.index.remove(gone)
        self.sent[slot] = False

    def take(self, some: Sequence[Admitted], families: Sequence[int]) -> Slots:
        """Slots for new series."""
        if not some:
            return NO_SLOTS
        slots = self.table.take([one.entry for one in some])
        self._grow()
        self.index.add(np.array([hash(one.entry[1:]) for one in some], np.int64), slots)
        self.origins[slots] = [one.origin for one in some]
        self.families[slots] = families
        for flags in (self.collided, self.sent, self.reported):
            flags[slots] = False
        self.born.append(slots)
        self.unlisted += zip(slots.tolist(), families, strict=True)
        return slots

    def free(self, slots: Slots) -> None:
        """Give slots back. A slot that was taken since the last tick is as if it never was."""
        if not len(slots):
            return
        gone = np.zeros(self.capacity, np.bool_)
        gone[slots] = True
        self.index.remove(gone)
        born = np.concatenate([NO_SLOTS, *self.born])
        self.born = [born[~gone[born]]]
        gone[born] = False
        self.table.free(slots)
        self.freed.append(np.flatnonzero(gone).astype(np.int32))
        numbers = set(slots.tolist())
        self.unlisted = [one for one in self.unlisted if one[0] not in numbers]

    def tick(self, at_ms: int, present: Bools | None, stale: Slots, **extras: Any) -> Tick:
        """What a scrape says of this lane; what was freed and taken since the last one goes with it."""
        freed, born = np.concatenate([NO_SLOTS, *self.freed]), np.concatenate([NO_SLOTS, *self.born])
        self.freed, self.born = [], []
        return Tick(at_ms, self.values[: self.capacity], present, stale, freed, born, **extras)

    def encode(self, tick: Tick, group: int) -> list[Block]:
        """The blocks of a tick for a group of the spool. Until `stored`, nothing of it counts as known there."""
        if self.is_outstanding:
            self.encoder.reset()
        blocks = self.encoder.encode(tick, group)
        self.is_outstanding = bool(blocks)
        return blocks

    def stored(self, sent: Bools) -> None:
        """What was encoded last is safe in the spool; the slots in `sent` can go stale from now on."""
        self.is_outstanding = False
        self.sent[:] = False
        self.sent[: len(sent)] = sent

    def padded(self, flags: Bools) -> Bools:
        """Flags by slot of some time ago, as long as the capacity is now."""
        missing = self.capacity - len(flags)
        return np.concatenate([flags, np.zeros(missing, np.bool_)]) if missing > 0 else flags[: self.capacity]

    def _grow(self) -> None:
        size = len(self.values)
        if size >= self.capacity:
            return
        more = self.capacity + self.capacity // 8 - size
        self.values = np.concatenate([self.values, np.zeros(more)])
        self.origins = np.concatenate([self.origins, np.zeros(more, np.int64)])
        self.families = np.concatenate([self.families, np.zeros(more, np.int32)])
        self.collided = np.concatenate([self.collided, np.zeros(more, np.bool_)])
        self.sent = np.concatenate([self.sent, np.zeros(more, np.bool_)])
        self.reported = np.concatenate([self.reported, np.zeros(more, np.bool_)])
