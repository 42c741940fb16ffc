"""The templates that are kept, and where in them each series stands."""

from __future__ import annotations

import numpy as np

from metering.gateway.foreign.skeleton import Skeleton


class Skeletons:
    """Bounded by bytes: what was not used for longest goes first. Not for concurrent use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[int, Skeleton] = {}  # by number, least recently added first
        self._alive: dict[int, int] = {}  # series whose newest place is in it
        self._next = 0
        self._bodies = 0
        self._skeleton_of = np.full(1024, -1, np.int64)
        self._index_of = np.zeros(1024, np.int64)
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, number: int) -> tuple[Skeleton, int] | None:
        """The newest template that holds the series, and its place there."""
        if not 0 <= number < len(self._skeleton_of):
            return None
        skeleton = self._kept.get(int(self._skeleton_of[number]))
        if skeleton is None:
            return None
        skeleton.used = self._bodies
        return skeleton, int(self._index_of[number])

    def add(self, skeleton: Skeleton) -> None:
        """Keep a template. A series that is in older ones too is found in this one from now on."""
        self._bodies += 1
        skeleton.used = self._bodies
        numbers, places = skeleton.named()
        if not len(numbers) or skeleton.size_bytes > self._max_bytes:
            return
        self._grow(int(numbers.max()) + 1)
        left, counts = np.unique(self._skeleton_of[numbers], return_counts=True)
        for older, count in zip(left.tolist(), counts.tolist(), strict=True):
            self._leave(older, count)
        self._kept[self._next] = skeleton
        self._alive[self._next] = len(numbers)
        self._skeleton_of[numbers] = self._next
        self._index_of[numbers] = places
        self.size_bytes += skeleton.size_bytes
        self._next += 1
        while self.size_bytes > self._max_bytes:
            self._drop(min(self._kept, key=lambda kept: self._kept[kept].used))

    def _leave(self, number: int, count: int) -> None:
        if number in self._kept:
            self._alive[number] -= count
            if self._alive[number] <= 0:
                self._drop(number)

    def _drop(self, number: int) -> None:
        self.size_bytes -= self._kept.pop(number).size_bytes
        del self._alive[number]

    def _grow(self, size: int) -> None:
        have = len(self._skeleton_of)
        if size > have:
            more = max(size, 2 * have) - have
            self._skeleton_of = np.concatenate([self._skeleton_of, np.full(more, -1, np.int64)])
            self._index_of = np.concatenate([self._index_of, np.zeros(more, np.int64)])
