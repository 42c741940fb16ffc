"""The bodies of one kept segment, read in order; of streams that nobody wants next to nothing is done."""

from __future__ import annotations

from collections.abc import Sequence

from collector.wire.frames import GroupReader, Rows
from collector.wire.frames.body import PATCH, ROOT, block_streams


class KeptGroup:
    """The state of a segment's frames. Bodies of streams that nobody wants are passed over till one is built on."""

    def __init__(self, reader: GroupReader) -> None:
        self._reader = reader
        self._passed: list[bytes] = []
        self._streams: set[int] = set()  # of those bodies

    def read(self, body: bytes) -> Sequence[Rows]:
        """Raises UnknownState, WireError."""
        try:
            blocks = block_streams(body)
        except IndexError:
            return self._reader.read(body)  # it says what is wrong
        if not any(flags & (ROOT | PATCH) or self._reader.is_wanted(stream) for flags, stream in blocks):
            self._passed.append(body)
            self._streams.update(stream for _, stream in blocks)
            return ()
        if any(stream in self._streams for _, stream in blocks):
            for passed in self._passed:
                self._reader.read(passed, samples=False)
            self._passed.clear()
            self._streams.clear()
        return self._reader.read(body)
