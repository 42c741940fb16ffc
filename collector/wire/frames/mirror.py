"""The sender's copy of what the receiver knows of a stream, and the blocks that lead there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from collector.wire.frames.body import KEYFRAME, PATCH, ROOT, Head
from collector.wire.frames.dictionary import CHECK_BYTES, digest_entries
from collector.wire.frames.layout import Compressor, varint
from collector.wire.frames.model import MAX_BLOCK_BYTES, Block
from collector.wire.frames.sections import Patch, render_patch
from collector.wire.frames.state import StreamState

_PATCH_BYTES = 4 * 1024 * 1024  # of entries in one block, before compression
_PATCH_SLOTS = 65_536  # freed or born in one block


@dataclass(slots=True)
class Piece:
    """Coded sections of a block that has no head yet; `name` is the dictionary's after its patch."""

    flags: int
    patch: bytes = b""
    columns: bytes = b""
    extras: bytes = b""
    samples: int = 0
    name: bytes = b""
    patch_bytes: int = 0  # of the patch before compression

    def __len__(self) -> int:
        return len(self.patch) + len(self.columns) + len(self.extras)

    def add(self, other: Piece) -> None:
        """Take in the sections of a piece that comes after this one and has other sections."""
        self.flags |= other.flags
        self.patch += other.patch
        self.columns += other.columns
        self.extras += other.extras
        self.samples += other.samples
        self.name = self.name or other.name
        self.patch_bytes += other.patch_bytes


class Mirror(StreamState):
    """Make pieces in their order, then `seal` them in the same order."""

    def __init__(self, stream: int, compressor: Compressor) -> None:
        super().__init__()
        self.version = 0  # of the last sealed block; 0: nothing was sent yet
        self._stream = stream
        self._compressor = compressor
        self._name = b""
        self._is_new = True

    def change(self, patch: Patch) -> list[Piece]:
        """Pieces that free slots and fill others."""
        return [piece for part in _portions(patch) for piece in self._change(part)]

    def _change(self, patch: Patch) -> list[Piece]:
        raw = render_patch(patch)
        section = self._compressor.section(raw)
        if len(section) > MAX_BLOCK_BYTES - 1000 and len(patch.born) > 1:
            middle = len(patch.born) // 2
            return [*self._change(patch.part(0, middle)), *self._change(patch.part(middle, len(patch.born)))]
        added = digest_entries(patch.born, patch.entries)
        total = self.dictionary.after(patch.freed, added)
        self.apply(patch, added, total)
        flags = PATCH | (ROOT if self._is_new else 0)
        self._is_new = False
        return [Piece(flags, patch=section, name=total.name(), patch_bytes=len(raw))]

    def seal(self, piece: Piece, at_ms: int, versions: Iterator[int]) -> Block:
        """The block of a piece; a change of state takes the next of `versions`."""
        before, before_name = self.version, self._name
        if piece.flags & (PATCH | KEYFRAME):
            self.version = next(versions)
        self._name = piece.name or before_name
        head = Head(
            flags=piece.flags,
            stream=self._stream,
            at_ms=at_ms,
            samples=piece.samples,
            version=self.version,
            before=before,
            check=self._name[:CHECK_BYTES],
            before_check=before_name[:CHECK_BYTES],
            name=piece.name,
        )
        content = head.render() + piece.patch + piece.columns + piece.extras
        return Block(varint(len(content)) + content, piece.samples, piece.patch_bytes)


def _portions(patch: Patch) -> Iterator[Patch]:
    """Freed slots first, in portions, the last of them with the first portion of born ones."""
    freed = patch.freed
    while len(freed) > _PATCH_SLOTS:
        yield replace(patch.part(0, 0), freed=freed[:_PATCH_SLOTS])
        freed = freed[_PATCH_SLOTS:]
    ends = np.cumsum(np.fromiter(map(len, patch.entries), np.int64, len(patch.entries)))
    start = 0
    while True:
        sent = int(ends[start - 1]) if start else 0
        stop = min(int(np.searchsorted(ends, sent + _PATCH_BYTES)), start + _PATCH_SLOTS, len(ends))
        stop = max(stop, min(start + 1, len(ends)))
        yield replace(patch.part(start, stop), freed=freed)
        freed, start = freed[:0], stop
        if stop >= len(ends):
            return
