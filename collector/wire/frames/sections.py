"""What stands inside the sections of a block: patches of the dictionary, and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.wire.frames.layout import Cursor, planes, slot_list, varint
from collector.wire.frames.model import CELL, MAX_SLOT, Bools, FrameLimits, Integers
from collector.wire.frames.values import Classes, decode_bases, encode_bases

_CELL_BYTES, _VALUE_BYTES = 16 + CELL // 8, 32
_LEAST_ENTRY = 5  # bytes: a type, a name, a value and their marks


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes of a stream's dictionary: `freed` first, then `entries[i]` goes to slot `born[i]`, ascending."""

    freed: Integers
    born: Integers
    entries: Sequence[bytes]  # canonical, within the limits
    classes: Classes  # of the bases of the born
    coded: Integers

    def part(self, start: int, stop: int) -> Patch:
        """The born from `start` to `stop`; the freed stay with the first."""
        part = slice(start, stop)
        freed = self.freed if start == 0 else self.freed[:0]
        return Patch(freed, self.born[part], self.entries[part], self.classes[part], self.coded[part])


def render_patch(patch: Patch) -> bytes:
    """The raw patch section."""
    lengths = np.fromiter(map(len, patch.entries), np.uint64, len(patch.entries))
    head = slot_list(patch.freed) + slot_list(patch.born) + planes(lengths)
    return b"".join([head, *patch.entries, encode_bases(patch.classes, patch.coded)])


@dataclass(slots=True)
class Budget:
    """What the blocks of one body may still take, all together: a list of a million slots is a few bytes."""

    patch_bytes: int  # decompressed
    slots: int  # freed or born
    extras_bytes: int  # decompressed


def parse_patch(cursor: Cursor, limits: FrameLimits, budget: Budget) -> Patch:
    """The inverse of `render_patch`; what the entries hold is not checked. Raises WireError."""
    freed = cursor.slot_list(budget.slots, MAX_SLOT + 1)
    born = cursor.slot_list(min(budget.slots - len(freed), cursor.end // _LEAST_ENTRY), MAX_SLOT + 1)
    budget.slots -= len(freed) + len(born)
    lengths = cursor.planes(len(born))
    if len(born) and int(lengths.max()) > limits.max_entry_bytes:
        raise cursor.wrong(f"an entry of {int(lengths.max())} bytes", f"at most {limits.max_entry_bytes}")
    text = cursor.take(int(lengths.sum()))
    ends = np.cumsum(lengths).tolist()
    entries = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    classes, coded = decode_bases(cursor, len(born))
    cursor.finish()
    return Patch(freed, born, entries, classes, coded)


def render_columns(cell: int, bitmap: bytes | None, values: bytes) -> bytes:
    """The raw column section of one cell; `bitmap` is by live slot of the cell (None: all of them have a value)."""
    return varint(cell) + (bitmap or b"") + values


def columns_limit(samples: int) -> int:
    """Bytes that columns of so many values may take: a bitmap; a class, eight planes and an exception for each."""
    return _CELL_BYTES + _VALUE_BYTES * min(samples, CELL)


def parse_present(cursor: Cursor, live: int) -> Bools:
    """Which of the `live` slots of a cell have a value. Raises WireError."""
    octets = np.frombuffer(cursor.take((live + 7) // 8), np.uint8)
    if live % 8 and int(octets[-1]) >> live % 8:
        raise cursor.wrong("a bit beyond the last live slot", "zeros")
    return np.unpackbits(octets, count=live, bitorder="little").view(np.bool_)
