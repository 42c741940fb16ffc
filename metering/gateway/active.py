"""The series that a tenant has sent samples of lately; never more than its limit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from metering.gateway.table import SeriesTable

PLACE_BYTES = 1024
_SWEEP_SECONDS = 10.0
_NEVER = float("-inf")


class ActiveSeries:
    """When each series of a table was last seen. A series takes a place for each begun kilobyte of its labels."""

    def __init__(self, hold: Callable[[int], int], window_seconds: float) -> None:
        """`hold` asks for so many places in all and says how many may be taken."""
        self._hold, self._window = hold, window_seconds
        self._seen = np.full(1024, _NEVER)
        self._places = np.zeros(1024, np.int64)
        self._known = 0  # series whose places are set
        self._carried: dict[int, tuple[float, int]] = {}  # of tables before, by the hash of the labels
        self._taken = 0
        self._swept = _NEVER

    def __len__(self) -> int:
        """The places taken."""
        return self._taken

    def without_room(self, table: SeriesTable, numbers: npt.NDArray[np.int64], now: float) -> npt.NDArray[np.int64]:
        """Those of the distinct `numbers` that are not active and do not fit any more."""
        self._learn(table)
        new = self._silent(numbers)
        if not len(new):
            return new
        needed = self._places[new].cumsum()
        wanted = self._taken + int(needed[-1])
        held = self._hold(wanted)
        if held < wanted:
            self._sweep(now)
            new = self._silent(numbers)
            needed = self._places[new].cumsum()
            held = self._hold(self._taken + int(needed[-1]))
        over: npt.NDArray[np.int64] = new[needed > held - self._taken]
        return over

    def give_back(self) -> None:
        """Hold no more places than are taken."""
        self._hold(self._taken)

    def touch(self, numbers: npt.NDArray[np.int64], now: float) -> None:
        """Mark as active. The caller has asked `without_room` these."""
        self._taken += int(self._places[self._silent(numbers)].sum())
        self._seen[numbers] = now

    def _silent(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those that are not active."""
        are_silent = self._seen[numbers] == _NEVER
        return numbers[are_silent] if are_silent.any() else numbers[:0]

    def leave(self, table: SeriesTable) -> None:
        """Keep what is active when the numbers of its table are given up."""
        numbers = np.flatnonzero(self._seen[: self._known] > _NEVER)
        seen, places = self._seen[numbers].tolist(), self._places[numbers].tolist()
        for number, when, size in zip(numbers.tolist(), seen, places, strict=True):
            self._carried[hash(table.canonical[number])] = (when, size)
        self._seen[:] = _NEVER
        self._known = 0

    def _learn(self, table: SeriesTable) -> None:
        """Make room for the series that are new in the table; those that were active before still are."""
        count = len(table)
        if count > len(self._seen):
            more = max(count, 2 * len(self._seen)) - len(self._seen)
            self._seen = np.concatenate([self._seen, np.full(more, _NEVER)])
            self._places = np.concatenate([self._places, np.zeros(more, np.int64)])
        if count > self._known:
            self._places[self._known : count] = 1 + (table.lengths[self._known : count] - 1) // PLACE_BYTES
            if self._carried:
                for number in range(self._known, count):
                    self._seen[number], _ = self._carried.pop(hash(table.canonical[number]), (_NEVER, 0))
            self._known = count

    def _sweep(self, now: float) -> None:
        if now - self._swept < _SWEEP_SECONDS:  # a sender at its limit must not make us sweep at each push
            return
        self._swept = now
        silent = (self._seen > _NEVER) & (now - self._seen >= self._window)
        self._seen[silent] = _NEVER
        self._carried = {key: one for key, one in self._carried.items() if now - one[0] < self._window}
        active = self._seen > _NEVER
        self._taken = int(self._places[active].sum()) + sum(size for _, size in self._carried.values())
