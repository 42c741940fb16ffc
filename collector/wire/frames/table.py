"""The entries of one stream by slot, without an object per series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from collector.wire.frames.model import MAX_ENTRY_BYTES, MAX_SLOT, Bools, Slots
from collector.wire.frames.packed import PackedTexts
from collector.wire.frames.values import grown

_SLICE = 4096  # entries that are objects at a time


class EntryTable:
    """Entries by slot: packed texts, with where they begin. An entry is the type byte and canonical label bytes.

    One table belongs to one StreamEncoder. A slot that is freed may be taken again in the same tick: its last
    entry is kept until the tick after was begun, as the encoder may need it for stale markers.
    """

    def __init__(self) -> None:
        self.capacity = 0  # slots ever used: all are below this
        self._texts = PackedTexts()
        self._garbage = 0  # bytes of the texts that no live entry holds
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int32)  # 0: the slot is free
        self._live: Bools = np.zeros(0, np.bool_)
        self._free: Slots = np.zeros(0, np.int32)  # ascending
        self._count = 0
        self._departed: dict[int, bytes] = {}
        self._leaving: list[tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []
        self._is_settled = False

    def __len__(self) -> int:
        """How many slots are live."""
        return self._count

    def take(self, entries: Sequence[bytes]) -> Slots:
        """Slots for new entries, the lowest free first. ValueError for an entry over MAX_ENTRY_BYTES, or empty."""
        self._begin()
        lengths = np.fromiter(map(len, entries), np.int32, len(entries))
        if len(entries) and not 0 < int(lengths.min()) <= int(lengths.max()) <= MAX_ENTRY_BYTES:
            raise ValueError(f"entries of 1 to {MAX_ENTRY_BYTES} bytes can be sent, not {int(lengths.max())}")
        free = self._free[: len(entries)]
        fresh = np.arange(self.capacity, self.capacity + len(entries) - len(free), dtype=np.int32)
        slots = np.concatenate([free, fresh])
        if self.capacity + len(fresh) > MAX_SLOT:
            raise ValueError(f"a stream has at most {MAX_SLOT} slots")
        self.capacity += len(fresh)
        self._starts = grown(self._starts, self.capacity)
        self._lengths = grown(self._lengths, self.capacity)
        self._live = grown(self._live, self.capacity)
        self._free = self._free[len(free) :]
        self._starts[slots] = self._texts.append(entries, lengths)
        self._lengths[slots] = lengths
        self._live[slots] = True
        self._count += len(entries)
        return slots

    def free(self, slots: npt.NDArray[Any]) -> None:
        """Give live slots back, each once. ValueError when one is not live."""
        self._begin()
        if len(slots) and (int(slots.max()) >= self.capacity or not self._lengths[slots].all()):
            raise ValueError("a slot that is not live can't be freed")
        starts, lengths = self._starts[slots], self._lengths[slots]
        self._leaving.append((slots.copy(), starts, lengths))
        self._garbage += int(lengths.sum())
        self._lengths[slots] = 0
        self._live[slots] = False
        freed = np.sort(slots).astype(np.int32)
        self._free = np.insert(self._free, np.searchsorted(self._free, freed), freed)
        self._count -= len(slots)
        if self._garbage > 65_536 and self._garbage > self._texts.size // 2:
            self._compact()

    def live(self) -> Bools:
        """Which slots are live, shape (capacity,); a copy."""
        return self._live[: self.capacity].copy()

    def entry(self, slot: int) -> bytes:
        """The entry of a live slot. KeyError when it is free."""
        if not 0 <= slot < self.capacity or not self._lengths[slot]:
            raise KeyError(slot)
        return self._texts.read(self._starts[slot : slot + 1], self._lengths[slot : slot + 1])[0]

    def entries(self, slots: npt.NDArray[Any]) -> list[bytes]:
        """The entries of live slots."""
        starts, lengths = self._starts[slots], self._lengths[slots]
        if not lengths.all():
            raise KeyError("a free slot has no entry")
        return self._texts.read(starts, lengths)

    def departed(self, slot: int) -> bytes | None:
        """The entry that a slot held before this tick freed it."""
        self._note_departed()
        return self._departed.get(slot)

    def settle(self) -> None:
        """A tick was encoded: what changes from here on belongs to another one."""
        self._is_settled = True
        self._texts.forget_open()

    def _begin(self) -> None:
        if self._is_settled:
            self._departed, self._leaving = {}, []
            self._is_settled = False

    def _note_departed(self) -> None:
        """Read the entries that left from the blob: seldom, as only a root that follows stale markers asks."""
        for slots, starts, lengths in self._leaving:
            for slot, entry in zip(slots.tolist(), self._texts.read(starts, lengths), strict=True):
                self._departed.setdefault(slot, entry)
        self._leaving = []

    def _compact(self) -> None:
        self._note_departed()
        slots = np.flatnonzero(self._lengths[: self.capacity])
        slots = slots[np.argsort(self._starts[slots], kind="stable")]  # so that each portion is opened once
        packed = PackedTexts()
        for start in range(0, len(slots), _SLICE):
            some = slots[start : start + _SLICE]
            self._starts[some] = packed.append(self.entries(some), self._lengths[some])
        self._texts = packed
        self._garbage = 0
