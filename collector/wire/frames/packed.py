"""Many short texts that are seldom read: appended, compressed in portions, read by where they begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import zstandard

Starts = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]
_BITS = 17
PORTION_BYTES = 1 << _BITS  # labels of a portion become a tenth; one that is read costs 0.1 ms


class PackedTexts:
    """A text begins at the number of its portion * PORTION_BYTES, plus its place there. The last is not packed yet.

    Several threads may read, or one append.
    """

    def __init__(self) -> None:
        self.size = 0  # bytes of all texts, as they were given
        self._packed: list[bytes] = []
        self._last = bytearray()
        self._open = (-1, b"")  # the portion that was read last

    def append(self, texts: Sequence[bytes], lengths: Lengths) -> Starts:
        """Where each begins. None may be longer than PORTION_BYTES."""
        starts = np.empty(len(texts), np.int64)
        ends = np.cumsum(lengths, dtype=np.int64)
        first = 0
        while first < len(texts):
            before = int(ends[first - 1]) if first else 0
            room = PORTION_BYTES - len(self._last)
            stop = int(np.searchsorted(ends, before + room, "right"))
            if stop == first:
                self._pack()
                continue
            place = len(self._packed) * PORTION_BYTES + len(self._last) - before
            starts[first:stop] = place + ends[first:stop] - lengths[first:stop]
            self._last += b"".join(texts[first:stop])
            first = stop
        self.size += int(ends[-1]) if len(texts) else 0
        return starts

    def read(self, starts: Starts, lengths: Lengths) -> list[bytes]:
        """The texts that begin there. Each portion is opened once."""
        found = [b""] * len(starts)
        order = np.argsort(starts, kind="stable")
        here, portion = -1, memoryview(b"")
        for index, start, length in zip(
            order.tolist(), starts[order].tolist(), lengths[order].tolist(), strict=True
        ):
            if start >> _BITS != here:
                here = start >> _BITS
                portion = memoryview(self._portion(here))
            at = start & (PORTION_BYTES - 1)
            found[index] = bytes(portion[at : at + length])
        return found

    def forget_open(self) -> None:
        """Keep no portion as it was: nothing will be read for a while."""
        self._open = (-1, b"")

    def _portion(self, number: int) -> bytes:
        if number == len(self._packed):
            return bytes(self._last)
        last, found = self._open
        if last != number:
            found = zstandard.ZstdDecompressor().decompress(self._packed[number])
            self._open = (number, found)
        return found

    def _pack(self) -> None:
        # A compressor is made each time: kept, it would hold more than what it saves for a small target.
        packed = zstandard.ZstdCompressor(level=1).compress(self._last)
        self._packed.append(bytes(memoryview(packed)))  # a copy: what zstd gives has the room of the worst case
        self._last = bytearray()
