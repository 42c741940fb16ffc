"""Numbers for the series of frames: given out once, mapped to a slot of the head on each sample by one array.

Readers of frames hold a number for as long as its series may be continued, while the head closes the slot of a
silent series, and may give the slot to another one. So a number is not a slot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metering.promql.vector import Integers

UNWANTED = 0  # the number of every series that the head does not keep
REFUSED, UNRESOLVED = -1, -2  # instead of a slot: none, and not looked up yet


class SeriesNumbers:
    """Numbers by canonical labels, with the count of their users."""

    def __init__(self) -> None:
        self.slots: Integers = np.array([REFUSED], np.int64)  # by number
        self._users = np.array([1], np.int64)
        self._labels: list[bytes] = [b""]
        self._numbers: dict[bytes, int] = {}
        self._free: list[int] = []
        self._resting: set[int] = set()

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self, canonical: Sequence[bytes]) -> Integers:
        """A number for each, with one user more."""
        numbers = np.fromiter((self._numbers.get(one) or self._open(one) for one in canonical), np.int64)
        np.add.at(self._users, numbers, 1)
        return numbers

    def _open(self, canonical: bytes) -> int:
        if not canonical:
            return UNWANTED
        if not self._free:
            before, added = len(self._labels), max(64, len(self._labels) // 2)
            self.slots = np.concatenate([self.slots, np.full(added, UNRESOLVED)])
            self._users = np.concatenate([self._users, np.zeros(added, np.int64)])
            self._labels.extend([b""] * added)
            self._free.extend(range(before + added - 1, before - 1, -1))
        number = self._free.pop()
        self._numbers[canonical] = number
        self._labels[number] = canonical
        self.slots[number] = UNRESOLVED
        return number

    def release(self, numbers: Integers) -> None:
        """One user less for each. The numbers keep their meaning until `recycle`."""
        np.subtract.at(self._users, numbers, 1)
        self._resting.update(numbers[self._users[numbers] <= 0].tolist())
        self._resting.discard(UNWANTED)

    def recycle(self) -> None:
        """Numbers without a user may be given to others from here on."""
        for number in self._resting:
            if self._users[number] <= 0 and self._labels[number]:
                del self._numbers[self._labels[number]]
                self._labels[number] = b""
                self._free.append(number)
        self._resting.clear()

    def labels(self, number: int) -> bytes:
        """The canonical labels of a number."""
        return self._labels[number]

    def forget_slot(self, canonical: bytes) -> None:
        """The head closed the slot of a series: its next sample is looked up again."""
        number = self._numbers.get(canonical)
        if number is not None:
            self.slots[number] = UNRESOLVED
