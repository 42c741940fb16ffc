"""Which series the ledger lists already: a hash of each in memory, so that the file needs no index by name.

Such an index costs about 25 us a new series, for its pages are written all over the file. Hashes have 64 bits and a
key of the process: of 200,000 series, one is taken for another and not listed about once in a billion ledgers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from collector import left_store as store

SeriesName = tuple[str, str]  # (family, series)
_MOST_RECENT = 16_384  # hashes that are not sorted in yet


class KnownSeries:
    """The series of one ledger file. Use it inside a transaction: another process may have listed some."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.int64)
        self._recent: set[int] = set()
        self._through = 0  # rows of the table up to this number are in here

    def follow(self, connection: sqlite3.Connection) -> None:
        """Take in the rows that are in the table and not in here. Raises sqlite3.Error."""
        newest = store.newest_series(connection)
        while self._through < newest:
            names, self._through = store.series_after(connection, self._through, _MOST_RECENT)
            self._add(list(map(hash, names)))

    def list_new(
        self, connection: sqlite3.Connection, names: Sequence[SeriesName], most: int
    ) -> tuple[list[SeriesName], int]:
        """Those that are not in here, which they are from now on; and how many were not looked at.

        At most so many: with the last of them, looking ends. The caller writes them before the next `follow`.
        """
        if most <= 0:
            return [], len(names)
        self.follow(connection)
        hashes = list(map(hash, names))
        known, recent = self._are_sorted_in(hashes), self._recent
        new: list[SeriesName] = []
        added: set[int] = set()
        looked_at = 0
        for name, one, is_known in zip(names, hashes, known, strict=True):
            if len(new) >= most:
                break
            looked_at += 1
            if not is_known and one not in recent and one not in added:
                added.add(one)
                new.append(name)
        self._add(list(added))
        self._through += len(new)
        return new, len(names) - looked_at

    def _are_sorted_in(self, hashes: Sequence[int]) -> list[bool]:
        if not len(self._sorted):
            return [False] * len(hashes)
        wanted = np.array(hashes, np.int64)
        at = np.searchsorted(self._sorted, wanted)
        at[at == len(self._sorted)] = 0
        found: list[bool] = (self._sorted[at] == wanted).tolist()
        return found

    def _add(self, hashes: Sequence[int]) -> None:
        self._recent.update(hashes)
        if len(self._recent) >= _MOST_RECENT:
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent = set()
