"""The keys of a body's rows as one column, and which row of the last body each row of the next one was.

Most bodies repeat the keys of the last one, in its order: a piece whose keys stand where the old ones stood costs
one comparison of memory. Any other piece is matched row by row against a window of the old column, by 64-bit marks;
whole runs of matches are then compared byte for byte, as marks may collide. What found no partner in its window is
looked up, by its bytes, among the old rows that found none.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collector.exposition.reading import NO_ROW, NO_ROWS, RowNumbers
from collector.wire.distinct import is_among

Offsets = npt.NDArray[np.int32]
Memory = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.uint64]
_SHIFTS = [0, *(sign * far for far in range(1, 64) for sign in (1, -1))]  # in rows, from where a key stood
_IDLE_SHIFTS = 12  # this many that gave nothing in a row, and no more are tried
_SLACK = 512  # rows of the window behind the length of a piece
_MULTIPLIER = np.uint64(secrets.randbits(64) | 1)  # so that no target can choose keys whose marks collide
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Keys in order: key i is `data[offsets[i]:offsets[i + 1]]`; offsets[0] is 0.

    `marks` is filled in as far as it was asked for (0: not yet). `memory`: what `data` is the beginning of, for
    whoever wants to write the next column there once this one is no longer used.
    """

    offsets: Offsets
    data: pa.Buffer
    marks: Marks | None = None
    memory: Memory | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def empty(cls) -> KeyColumn:
        return cls(np.zeros(1, np.int32), pa.py_buffer(b""))

    def key(self, row: int) -> bytes:
        return self.bytes(row, row + 1)

    def keys(self, rows: npt.NDArray[Any]) -> Iterator[bytes]:
        """The keys of some rows; far quicker than one by one."""
        data = memoryview(self.data)
        for start, end in zip(self.offsets[rows].tolist(), self.offsets[rows + 1].tolist(), strict=True):
            yield bytes(data[start:end])

    def release(self, row: int) -> None:
        """The column holds its keys for as long as it is there."""

    def bytes(self, first: int, last: int) -> bytes:
        """The keys of rows [first, last), one after the other."""
        start, end = int(self.offsets[first]), int(self.offsets[last])
        return self.data.slice(start, end - start).to_pybytes()

    def array(self) -> pa.BinaryArray:
        """As an Arrow array that shares the memory."""
        bounds = _buffer(self.offsets)
        array = pa.Array.from_buffers(pa.binary(), len(self), [None, bounds, self.data])
        assert isinstance(array, pa.BinaryArray)
        return array

    def known_marks(self, first: int, last: int) -> Marks:
        """The marks of rows [first, last), 0 where they were not asked for yet."""
        return np.zeros(last - first, np.uint64) if self.marks is None else self.marks[first:last]

    def marks_of(self, first: int, last: int, stride: int) -> Marks:
        """The marks of rows [first, last)."""
        marks = self.known_marks(first, last)
        if not marks.all():
            marks = _marks(self.rows(first, last), stride)
            if self.marks is not None:
                self.marks[first:last] = marks
        return marks

    def rows(self, first: int, last: int) -> KeyColumn:
        """The rows [first, last) as a column that shares the memory."""
        bounds = self.offsets[first : last + 1]
        return KeyColumn(bounds - bounds[0], self.data.slice(int(bounds[0])))

    def stands_at(self, row: int, piece: KeyColumn) -> bool:
        """Whether the rows from `row` on are those of the piece."""
        if row + len(piece) > len(self):
            return False
        ours = self.offsets[row : row + len(piece) + 1]
        size = int(piece.offsets[-1])
        if int(ours[-1]) - int(ours[0]) != size or not np.array_equal(ours - ours[0], piece.offsets):
            return False
        return self.data.slice(int(ours[0]), size).equals(piece.data.slice(0, size))


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
        self._writer: _ColumnWriter | None = None

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
        self._writer = _ColumnWriter(len(self._old.data), self._size, self._spare)
        self._writer.add(self._old, self._at)
        self._previous.append(np.arange(self._at, dtype=np.int32))

    def _match(self, piece: KeyColumn) -> None:
        assert self._writer is not None
        old, first = self._old, self._at
        last = min(len(old), first + len(piece) + _SLACK)
        marks = _marks(piece, self._stride)
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


class _ColumnWriter:
    """A column that grows at its end."""

    def __init__(self, least: int, most: int, spare: Memory | None) -> None:
        wanted = least + least // 64 + 4096
        if spare is not None and len(spare) >= wanted:
            self._memory = spare
        else:
            self._memory = np.empty(max(wanted, most) * 9 // 8, np.uint8)
        self._size = 0
        self._offsets: list[Offsets] = [np.zeros(1, np.int32)]
        self._marks: list[Marks] = []

    def add(self, piece: KeyColumn, rows: int | None = None, marks: Marks | None = None) -> None:
        """Append the piece, or its first `rows` rows."""
        rows = len(piece) if rows is None else rows
        size = int(piece.offsets[rows])
        if self._size + size > len(self._memory):
            self._memory = np.concatenate([self._memory[: self._size], np.empty(self._size // 2 + size, np.uint8)])
        self._memory[self._size : self._size + size] = np.frombuffer(memoryview(piece.data), np.uint8, size)
        self._offsets.append(piece.offsets[1 : rows + 1] + np.int32(self._size))
        self._marks.append(piece.known_marks(0, rows) if marks is None else marks)
        self._size += size

    def column(self) -> KeyColumn:
        memory = self._memory
        if len(memory) > 2 * self._size + 65_536:
            memory = memory[: self._size].copy()
        offsets, marks = np.concatenate(self._offsets), np.concatenate(self._marks)
        return KeyColumn(offsets, _buffer(memory[: self._size]), marks, memory)


def _buffer(array: Any) -> pa.Buffer:
    """The memory of an array, as Arrow sees it."""
    return pa.py_buffer(array)


def _marks(column: KeyColumn, stride: int) -> Marks:
    """64 bits for each key, never 0, that its length, its last 8 bytes and 8 of each `stride` before went into."""
    lengths = np.diff(column.offsets)
    shortest, longest = int(lengths.min(initial=8)), int(lengths.max(initial=0))
    size = int(column.offsets[-1])
    data = memoryview(column.data)
    if shortest < 8:
        data = memoryview(column.data.slice(0, size).to_pybytes() + bytes(8))
        size += 8
    words = np.ndarray(shape=(size - 7,), dtype=np.uint64, buffer=data, strides=(1,))  # one at every byte
    starts = column.offsets[:-1].astype(np.int64)
    last = starts + np.maximum(lengths - 8, 0)
    marks: Marks = lengths.astype(np.uint64)
    _mix(marks, _cut(words[last], lengths) if shortest < 8 else words[last])
    for offset in range(0, longest - 8, stride):
        if offset + 8 < shortest:
            _mix(marks, words[starts + offset])
        else:
            rows = np.flatnonzero(lengths > offset + 8)
            some = marks[rows]
            _mix(some, words[starts[rows] + offset])
            marks[rows] = some
    marks[marks == 0] = 1
    return marks


def _cut(words: Marks, lengths: npt.NDArray[np.int32]) -> Marks:
    """Without what stands behind keys that are shorter than a word."""
    beyond = np.maximum(8 - lengths, 0).astype(np.uint64) * np.uint64(8)
    cut: Marks = (words << beyond) >> beyond
    return cut


def _mix(marks: Marks, words: Marks) -> None:
    marks ^= marks >> _HALF
    marks *= _MULTIPLIER
    marks += words


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
