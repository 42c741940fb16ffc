"""Which row of the last body each row of the next one was, by their keys.

Most bodies repeat the keys of the last one, in its order: a piece whose keys stand where the old ones stood costs
one comparison of memory. Any other piece is matched row by row against a window of the old column, by 64-bit marks;
whole runs of matches are then compared byte for byte, as marks may collide. What found no partner in its window is
looked up, by its bytes, among the old rows that found none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.exposition.key_column import ColumnWriter, KeyColumn, Marks, Memory, marks_of_keys
from collector.exposition.reading import NO_ROW, NO_ROWS, RowNumbers
from collector.wire.distinct import is_among

_SHIFTS = [0, *(sign * far for far in range(1, 64) for sign in (1, -1))]  # in rows, from where a key stood
_IDLE_SHIFTS = 12  # this many that gave nothing in a row, and no more are tried
_SLACK = 512  # rows of the window behind the length of a piece


@dataclass(slots=True)
class Matched:
    """The keys of a body against those of the one before. `previous` None: they are the same, in the same order."""

    column: KeyColumn
    previous: RowNumbers | None
    fresh: RowNumbers  # rows whose key is not in the old column
    collisions: int = 0  # rows whose mark was that of another key


class KeyMatcher:
    """Matches the keys of a body, piece by piece in its order, against an old column.

    `spare` is memory to write a new column into: fresh memory costs more than all the rest. `size`: bytes that all
    keys may take; memory that is not touched costs nothing. `stride`: of a key, 8
    bytes of each so many go into its mark; columns that are matched must have been marked with the same.
    """

    def __init__(self, old: KeyColumn, spare: Memory | None = None, stride: int = 8, size: int = 0) -> None:
        self._old = old
        self._size = size
        self._stride = stride
        self._collisions = 0
        self._spare = spare
        self._at = 0  # the old row that is expected next
        self._rows = 0
        self._previous: list[RowNumbers] = []  # once they differ
        self._unmatched: list[RowNumbers] = []
        self._unmatched_marks: list[Marks] = []
        self._writer: ColumnWriter | None = None

    def add(self, piece: KeyColumn) -> None:
        """The next rows."""
        old, count = self._old, len(piece)
        if old.stands_at(self._at, piece):
            if self._writer is not None:
                self._previous.append(np.arange(self._at, self._at + count, dtype=np.int32))
                self._writer.add(piece, marks=old.known_marks(self._at, self._at + count))
            self._at += count
        else:
            self._differ()
            self._match(piece)
        self._rows += count

    def finish(self) -> Matched:
        """The result, after the last piece."""
        if self._writer is None:
            if self._at == len(self._old):
                return Matched(self._old, None, NO_ROWS)
            self._differ()
        assert self._writer is not None
        column = self._writer.column()
        previous = np.concatenate([NO_ROWS, *self._previous])
        rows = np.concatenate([NO_ROWS, *self._unmatched])
        if len(rows) and len(self._old):
            self._look_up(column, rows, previous)
            rows = rows[previous[rows] < 0]
        return Matched(column, previous, rows, self._collisions)

    def _differ(self) -> None:
        """From here on a new column is written; what was equal so far begins it."""
        if self._writer is not None:
            return
        self._writer = ColumnWriter(len(self._old.data), self._size, self._spare)
        self._writer.add(self._old, self._at)
        self._previous.append(np.arange(self._at, dtype=np.int32))

    def _match(self, piece: KeyColumn) -> None:
        assert self._writer is not None
        old, first = self._old, self._at
        last = min(len(old), first + len(piece) + _SLACK)
        marks = marks_of_keys(piece, self._stride)
        self._writer.add(piece, marks=marks)
        found = _match_marks(marks, old.marks_of(first, last, self._stride))
        found[found >= 0] += first
        self._collisions += _verify(piece, old, found)
        self._previous.append(found)
        self._at = max(first, int(found.max(initial=NO_ROW)) + 1)
        rows = np.flatnonzero(found < 0)
        self._unmatched.append((rows + self._rows).astype(np.int32))
        self._unmatched_marks.append(marks[rows])

    def _look_up(self, column: KeyColumn, rows: RowNumbers, previous: RowNumbers) -> None:
        """Keys that moved out of their window get their row in `previous`; the others are new."""
        is_left = np.ones(len(self._old), np.bool_)
        is_left[previous[previous >= 0]] = False
        places = np.flatnonzero(is_left)
        marks = self._old.known_marks(0, len(self._old))[places]
        places = places[(marks == 0) | is_among(marks, np.concatenate(self._unmatched_marks))]
        left = dict(zip(self._old.keys(places), places.tolist(), strict=True))
        if left:
            previous[rows] = [left.get(key, NO_ROW) for key in column.keys(rows)]


def _match_marks(ours: Marks, window: Marks) -> RowNumbers:
    """For each of our marks a place in the window that has the same one, or NO_ROW.

    Near its old place first, as rows come and go one by one; then anywhere, if that left many without a partner.
    """
    found = np.full(len(ours), NO_ROW, np.int32)
    is_left = np.ones(len(ours), np.bool_)
    left: npt.NDArray[np.int64] | None = None  # once few are: then one by one, before that all beside each other
    idle = 0
    for shift in _SHIFTS:
        if left is None:
            first = max(0, -shift)
            last = max(first, min(len(ours), len(window) - shift))
            is_hit = ours[first:last] == window[first + shift : last + shift]
            is_hit &= is_left[first:last]
            rows = np.flatnonzero(is_hit) + first
        else:
            places = left + shift
            inside = (places >= 0) & (places < len(window))
            rows, places = left[inside], places[inside]
            rows = rows[ours[rows] == window[places]]
        idle = 0 if len(rows) else idle + 1
        if idle == _IDLE_SHIFTS:
            break
        if len(rows):
            found[rows] = rows + shift
            is_left[rows] = False
            if left is not None or np.count_nonzero(is_left) * 16 < len(ours):
                left = np.flatnonzero(is_left)
                if not len(left):
                    return found
    rest = np.flatnonzero(is_left)
    if len(rest) * 4 > len(ours) and len(window):
        order = np.argsort(window, kind="stable")
        at = np.minimum(np.searchsorted(window[order], ours[rest]), len(window) - 1)
        nearest = order[at]
        is_hit = window[nearest] == ours[rest]
        found[rest[is_hit]] = nearest[is_hit]
    return found


def _verify(piece: KeyColumn, old: KeyColumn, found: RowNumbers) -> int:
    """Take back the matches whose bytes differ; how many. Runs of neighbours are compared at once."""
    breaks = np.flatnonzero((np.diff(found) != 1) | (found[:-1] < 0)) + 1
    firsts = np.concatenate([np.zeros(1, np.int64), breaks])
    lasts = np.concatenate([breaks, np.array([len(found)])])
    is_match = found[firsts] >= 0
    firsts, lasts = firsts[is_match], lasts[is_match]
    if not len(firsts):
        return 0
    collisions = 0
    places = found[firsts]
    ours, theirs = memoryview(piece.data), memoryview(old.data)
    bounds = zip(
        firsts.tolist(), lasts.tolist(),
        piece.offsets[firsts].tolist(), piece.offsets[lasts].tolist(),
        old.offsets[places].tolist(), old.offsets[places + (lasts - firsts)].tolist(),
        strict=True,
    )  # fmt: skip
    for first, last, start, end, old_start, old_end in bounds:
        # As bytes: two memoryviews would be compared item by item.
        if bytes(ours[start:end]) != bytes(theirs[old_start:old_end]):
            for row in range(first, last):
                if piece.key(row) != old.key(int(found[row])):
                    found[row] = NO_ROW
                    collisions += 1
    return collisions
