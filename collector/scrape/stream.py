"""The series of one target in one lane, by slot: columns that frames are made of, and no object per series."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.exposition.readers import cell_coder
from collector.scrape.index import NO_SLOTS, Bools, Hashes, SlotIndex, Slots
from collector.wire.distinct import distinct, is_among
from collector.wire.frames import Block, EntryTable, StreamEncoder, Tick

CREATED = b"_created"  # how the names of series end that say when others began
# Numbers of streams are unique within the process, so within every group.
_numbers = itertools.count(1)


@dataclass(slots=True)
class Newcomers:
    """Series seen first: canonical labels, type bytes, hashes of the labels, hashes of them before the policy."""

    labels: Sequence[bytes]
    kinds: Sequence[bytes]
    hashes: Hashes
    origins: Hashes
    families: Slots

    @classmethod
    def of(
        cls, labels: Sequence[bytes], kinds: Sequence[bytes], origins: Sequence[int], families: Sequence[int]
    ) -> Newcomers:
        hashes = np.fromiter(map(hash, labels), np.int64, len(labels))
        return cls(labels, kinds, hashes, np.array(origins, np.int64), np.array(families, np.int32))

    def some(self, places: npt.NDArray[np.intp]) -> Newcomers:
        numbers = places.tolist()
        labels, kinds = [self.labels[at] for at in numbers], [self.kinds[at] for at in numbers]
        return Newcomers(labels, kinds, self.hashes[places], self.origins[places], self.families[places])

    def has_equals(self) -> bool:
        """Whether two of them may have the same labels."""
        return len(distinct(self.hashes)) < len(self.hashes)


class Stream:
    """One lane of one target. Arrays by slot are at least as long as the table's capacity."""

    def __init__(self) -> None:
        self.table = EntryTable()
        self.encoder = StreamEncoder(next(_numbers), self.table, coder=cell_coder())
        self.index = SlotIndex()
        self.values = np.empty(0)
        self.origins = np.empty(0, np.int64)
        self.families = np.empty(0, np.int32)
        self.collided = np.empty(0, np.bool_)
        self.sent = np.empty(
            0, np.bool_
        )  # in the last stored scrape, without a time of its own: these can go stale
        self.reported = np.empty(0, np.bool_)  # series about the scrape
        self.unlisted = NO_SLOTS  # series that the ledger does not have yet
        self.freed: list[Slots] = []  # since the last tick
        self.born: list[Slots] = []
        self.watches_created = False  # look for `_created` among the series that come
        self.has_created = False  # there was one
        self._given_back: list[Slots] = []  # since they were asked for
        self._taken: list[Slots] = []
        self.is_outstanding = False  # a tick was encoded and is not known to be stored

    @property
    def capacity(self) -> int:
        return self.table.capacity

    def find(self, some: Newcomers) -> Slots:
        """The slot of each series, -1 where there is none. A series of another origin makes its slot collide.

        One that has another type now goes on in another slot: here it ends without a stale marker.
        """
        found = np.full(len(some.labels), -1, np.int32)
        hits = list(self.index.find(some.hashes))
        entries = self.table.entries(np.array([slot for _, slot in hits], np.int32))
        for (place, slot), entry in zip(hits, entries, strict=True):
            if entry[1:] != some.labels[place]:
                continue
            if self.origins[slot] != some.origins[place]:
                self.collided[slot] = True
            if entry[:1] == some.kinds[place]:
                found[place] = slot
            else:
                self.index.remove(np.array([slot], np.int32))
                self.sent[slot] = False
        return found

    def take(self, some: Newcomers) -> Slots:
        """Slots for new series."""
        if not some.labels:
            return NO_SLOTS
        slots = self.table.take(list(map(add, some.kinds, some.labels)))
        self._grow()
        self.index.add(some.hashes, slots)
        self.origins[slots] = some.origins
        self.families[slots] = some.families
        for flags in (self.collided, self.sent, self.reported):
            flags[slots] = False
        self.born.append(slots)
        self._taken.append(slots)
        if self.watches_created and not self.has_created:
            self.has_created = CREATED + b"\xff" in b"".join(some.labels)
        self.unlisted = np.concatenate([self.unlisted, slots])
        return slots

    def free(self, slots: Slots) -> None:
        """Give slots back. A slot that was taken since the last tick is as if it never was."""
        if not len(slots):
            return
        self.index.remove(slots)
        self.unlisted = self.unlisted[~is_among(self.unlisted, slots)]
        born = np.concatenate([NO_SLOTS, *self.born])
        self.born = [born[~is_among(born, slots)]]
        self.table.free(slots)
        self._given_back.append(slots)
        self.freed.append(slots[~is_among(slots, born)])

    def changes(self) -> tuple[Slots, Slots]:
        """Slots given back, and then slots taken, since this was asked last; some of these may be free again."""
        found = np.concatenate([NO_SLOTS, *self._given_back]), np.concatenate([NO_SLOTS, *self._taken])
        self._given_back, self._taken = [], []
        return found

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
