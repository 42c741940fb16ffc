"""Scrapes of one stream, encoded into blocks."""

from __future__ import annotations

from collector.wire.frames.model import Block, Tick
from collector.wire.frames.table import EntryTable


class StreamEncoder:
    """What the receiver knows of one stream. `stream` (u32) is its number, unique within the lane's group."""

    def __init__(self, stream: int, table: EntryTable, *, keyframe_every: int = 20, level: int = 1) -> None:
        raise NotImplementedError

    def encode(self, tick: Tick, group: int) -> list[Block]:
        """The blocks of one scrape, in their order, to be stored in `group`; a root when the group is another one.

        All of them must be stored, else call `reset`. The same tick may be encoded again for a later group.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """A block was not stored: the next tick begins with a root."""
        raise NotImplementedError
