"""Which series the ledger lists already: a hash of each in memory, so that the file needs no index by name.

Such an index costs about 25 us a new series, for its pages are written all over the file. Hashes have 64 bits and a
key of the process: of 200,000 series, one is taken for another and not listed about once in a billion ledgers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from collector import left_store as store
from collector.wire.distinct import is_in_sorted

SeriesName = tuple[str, str]  # (family, series)
Hashes = npt.NDArray[np.int64]
_MOST_RECENT = 16_384  # hashes that are not sorted in among all


class KnownSeries:
    """The series of one ledger file. Use it inside a transaction: another process may have listed some."""

    def __init__(self) -> None:
        self._sorted: Hashes = np.empty(0, np.int64)
        self._recent: Hashes = np.empty(0, np.int64)  # sorted too, and few
        self._through = 0  # rows of the table up to this number are in here

    def follow(self, connection: sqlite3.Connection) -> None:
        """Take in the rows that are in the table and not in here. Raises sqlite3.Error."""
        newest = store.newest_series(connection)
        while self._through < newest:
            names, self._through = store.series_after(connection, self._through, _MOST_RECENT)
            self._add(_hashes(names))

    def list_new(
        self, connection: sqlite3.Connection, names: Sequence[SeriesName], most: int
    ) -> tuple[Sequence[SeriesName], int]:
        """Those that are not in here, which they are from now on; and how many were not looked at.

        At most so many: with the last of them, looking ends. The caller writes them before the next `follow`.
        """
        if most <= 0 or not names:
            return [], len(names)
        self.follow(connection)
        hashes = _hashes(names)
        is_new = ~is_in_sorted(hashes, self._sorted)
        is_new &= ~is_in_sorted(hashes, self._recent)
        is_new &= _are_first(hashes)
        places = np.flatnonzero(is_new)
        looked_at = len(names) if len(places) < most else int(places[most - 1]) + 1
        places = places[:most]
        self._add(hashes[places])
        self._through += len(places)
        new = names if len(places) == len(names) else [names[place] for place in places.tolist()]
        return new, len(names) - looked_at

    def _add(self, hashes: Hashes) -> None:
        self._recent = np.sort(np.concatenate([self._recent, hashes]))
        if len(self._recent) >= _MOST_RECENT:
            self._sorted = np.sort(np.concatenate([self._sorted, self._recent]))
            self._recent = self._recent[:0].copy()


def _hashes(names: Sequence[SeriesName]) -> Hashes:
    return np.fromiter(map(hash, names), np.int64, len(names))


def _are_first(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Which of them no equal one stands before."""
    order = np.argsort(hashes, kind="stable")
    is_first = np.ones(len(hashes), np.bool_)
    is_first[order[1:][hashes[order[1:]] == hashes[order[:-1]]]] = False
    return is_first
