"""What a receiver makes of the blocks that a target's state encodes."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from collector.labels import Labels
from collector.scrape.series import STALE, labels_of
from collector.wire.frames import Block, GroupReader, Rows, join_blocks

STALE_BITS = struct.pack("<d", STALE)


class Receiver:
    """Reads the groups of both lanes."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.rows: list[Rows] = []  # of the last body
        self._readers: dict[tuple[int, int], GroupReader] = {}

    def _assign(self, entries: Sequence[bytes]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        first = len(self.entries)
        self.entries += entries
        return np.arange(first, first + len(entries), dtype=np.int64)

    def take(self, lane: int, group: int, blocks: Sequence[Block]) -> list[tuple[Labels, int, float | str]]:
        """(labels, ms, value) of every sample, `stale` for a stale marker."""
        reader = self._readers.setdefault((lane, group), GroupReader(self._assign))
        found: list[tuple[Labels, int, float | str]] = []
        for block in blocks:
            self.rows = reader.read(join_blocks(group, [block]))
            for rows in self.rows:
                for series, at, value in zip(
                    rows.series.tolist(), rows.timestamps_ms.tolist(), rows.values, strict=True
                ):
                    is_stale = struct.pack("<d", value) == STALE_BITS
                    found.append((labels_of(self.entries[series]), at, "stale" if is_stale else float(value)))
        return found
