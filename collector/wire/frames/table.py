"""The entries of one stream by slot, without an object per series."""

from __future__ import annotations

from collections.abc import Sequence

from collector.wire.frames.model import Bools, Slots


class EntryTable:
    """Entries by slot: one blob of bytes, with offsets. An entry is the type byte and canonical label bytes.

    One table belongs to one StreamEncoder. A slot that is freed may be taken again in the same tick: its last
    entry is kept until the tick after was begun, as the encoder may need it for stale markers.
    """

    @property
    def capacity(self) -> int:
        """How many slots were ever used: all are below this."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many slots are live."""
        raise NotImplementedError

    def take(self, entries: Sequence[bytes]) -> Slots:
        """Slots for new entries, the lowest free first. ValueError for an entry over MAX_ENTRY_BYTES."""
        raise NotImplementedError

    def free(self, slots: Slots) -> None:
        """Give live slots back. ValueError when one is not live."""
        raise NotImplementedError

    def live(self) -> Bools:
        """Which slots are live, shape (capacity,); a copy."""
        raise NotImplementedError

    def entry(self, slot: int) -> bytes:
        """The entry of a live slot. KeyError when it is free."""
        raise NotImplementedError
