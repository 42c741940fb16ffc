"""The state of one group, read block by block: what the lake, the head and the uploader decode frames with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from collector.wire.frames.model import FrameLimits, Integers, Rows

Assign = Callable[[Sequence[bytes]], Integers]


class GroupReader:
    """State of ONE group of one lane and epoch of one collector.

    `assign` gives the caller's series numbers for new entries (type byte and canonical labels), in their order.
    `keep_entries`: needed by `roots` alone; without, an entry is forgotten as soon as it has its number.
    """

    def __init__(self, assign: Assign, *, keep_entries: bool = True, limits: FrameLimits | None = None) -> None:
        raise NotImplementedError

    def read(self, body: bytes, *, samples: bool = True) -> list[Rows]:
        """Take a body in and give its samples; without `samples`, take in the state alone (cheaper).

        Raises UnknownState, WireError, BodyTooLarge. What of the body's state could be taken in was, also then.
        """
        raise NotImplementedError

    def roots(self) -> list[bytes]:
        """Bodies that rebuild this state elsewhere, without a sample. Needs `keep_entries`."""
        raise NotImplementedError
