"""Which slots hold labels of a hash: 13 bytes a series, and a change costs by what changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
NO_SLOTS: Slots = np.empty(0, np.int32)
_LEAST_CHANGES = 1_024  # before everything is sorted anew
_SHARE = 8  # or this part of what is there


class SlotIndex:
    """Sorted hashes with their slots, beside them the few added since, and a mark on what was removed since."""

    def __init__(self) -> None:
        self._hashes: Hashes = np.empty(0, np.int64)
        self._slots = NO_SLOTS
        self._is_gone: Bools = np.empty(0, np.bool_)  # by slot: what `_slots` says of it holds no more
        self._gone = 0
        self._new_hashes: Hashes = np.empty(0, np.int64)
        self._new_slots = NO_SLOTS

    def find(self, hashes: Hashes) -> Iterator[tuple[int, int]]:
        """(place in `hashes`, slot) for each slot that has one of the hashes."""
        places, slots = _find(self._hashes, self._slots, hashes)
        is_there = ~self._is_gone[slots]
        yield from zip(places[is_there].tolist(), slots[is_there].tolist(), strict=True)
        places, slots = _find(self._new_hashes, self._new_slots, hashes)
        yield from zip(places.tolist(), slots.tolist(), strict=True)

    def add(self, hashes: Hashes, slots: Slots) -> None:
        """Slots that are not in it."""
        if not len(slots):
            return
        self._reserve(int(slots.max()) + 1)
        self._new_hashes, self._new_slots = _merged(self._new_hashes, self._new_slots, hashes, slots)
        self._settle()

    def remove(self, slots: Slots) -> None:
        """Forget slots that are in it, each once."""
        if not len(slots):
            return
        self._is_gone[slots] = True
        self._gone += len(slots)
        if len(self._new_slots):
            is_removed = np.zeros(len(self._is_gone), np.bool_)
            is_removed[slots] = True
            kept = ~is_removed[self._new_slots]
            self._new_hashes, self._new_slots = self._new_hashes[kept], self._new_slots[kept]
        self._settle()

    def _reserve(self, size: int) -> None:
        if size > len(self._is_gone):
            longer = np.zeros(size + size // 8, np.bool_)
            longer[: len(self._is_gone)] = self._is_gone
            self._is_gone = longer

    def _settle(self) -> None:
        """Once much has changed, all is sorted in."""
        if self._gone + len(self._new_slots) <= max(_LEAST_CHANGES, len(self._slots) // _SHARE):
            return
        kept = ~self._is_gone[self._slots]
        self._hashes, self._slots = _merged(
            self._hashes[kept], self._slots[kept], self._new_hashes, self._new_slots
        )
        self._new_hashes, self._new_slots = self._new_hashes[:0].copy(), NO_SLOTS
        self._is_gone[:] = False
        self._gone = 0


def _find(sorted_hashes: Hashes, slots: Slots, hashes: Hashes) -> tuple[npt.NDArray[np.int64], Slots]:
    """Places in `hashes`, and the slots found for them; nearly always none or one."""
    order = np.argsort(hashes)  # so that searches that follow each other look at the same memory
    first = np.searchsorted(sorted_hashes, hashes[order], "left")
    inside = np.flatnonzero(first < len(sorted_hashes))
    found = inside[sorted_hashes[first[inside]] == hashes[order[inside]]]
    if not len(found):
        return found, NO_SLOTS
    first, order = first[found], order[found]
    counts = np.searchsorted(sorted_hashes, hashes[order], "right") - first
    places = np.repeat(order, counts)
    within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places, slots[np.repeat(first, counts) + within]


def _merged(hashes: Hashes, slots: Slots, more: Hashes, more_slots: Slots) -> tuple[Hashes, Slots]:
    order = np.argsort(more, kind="stable")
    at = np.searchsorted(hashes, more[order])
    return np.insert(hashes, at, more[order]), np.insert(slots, at, more_slots[order])
