"""The keys of a body's rows as one column, each with a mark of 64 bits by which it is looked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Offsets = npt.NDArray[np.int32]
Memory = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.uint64]
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
            marks = marks_of_keys(self.rows(first, last), stride)
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


class ColumnWriter:
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


def marks_of_keys(column: KeyColumn, stride: int) -> Marks:
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
