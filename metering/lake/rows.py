"""Samples by column: as pushes bring them, and in the order of the files."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint8]  # (n, 16)


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one push by column; `slots` number the series in the writer's `SeriesIndex`.

    `at_ms`: the time of all of them, if they have one in common; then `timestamps_ms` may be empty. `stream`: what
    has nearly the same series every time. `is_foreign`: equal samples are stored once.
    """

    slots: Integers
    timestamps_ms: Integers
    values: Floats
    is_foreign: bool = False
    at_ms: int | None = None
    stream: Hashable = None

    def times(self) -> Integers:
        """The time of each row, ms."""
        return self.timestamps_ms if self.at_ms is None else np.full(len(self.slots), self.at_ms, np.int64)

    def take(self, chosen: Bools) -> Rows:
        """Those rows; for rows without a common time."""
        return Rows(self.slots[chosen], self.timestamps_ms[chosen], self.values[chosen], self.is_foreign)


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows in order: `counts[i]` rows of the series `ids[i]`, one series after the other.

    Equal samples of foreign senders are gone; `duplicates` says how many. `every`: the times that every run has, if
    all have the same; then `timestamps_ms` may be empty.
    """

    ids: Ids  # ascending
    counts: Integers
    timestamps_ms: Integers
    values: Floats
    duplicates: int = 0
    every: Integers | None = None

    def times(self) -> Integers:
        """The time of each row, ms."""
        return self.timestamps_ms if self.every is None else np.tile(self.every, len(self.ids))


def id_words(ids: Ids) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Ids of shape (n, 16) as high and low words that compare as their bytes do."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0], words[:, 1]
