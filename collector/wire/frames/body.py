"""Bodies: a header with a checksum, and the blocks of one or several streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collector.wire.frames.model import Block, FrameLimits, Slots


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes of a stream's dictionary: `freed` first, then `entries[i]` goes to slot `born[i]`."""

    freed: Slots
    born: Slots
    entries: Sequence[bytes]  # checked: canonical, within the limits


@dataclass(frozen=True, slots=True)
class BlockView:
    """One block, its head and patch checked; columns and extras not opened yet."""

    stream: int
    at_ms: int
    is_root: bool
    samples: int  # as the block says
    patch: Patch | None


@dataclass(frozen=True, slots=True)
class Body:
    """A body whose header, checksum, block heads and patches were checked."""

    group: int
    samples: int
    blocks: Sequence[BlockView]


def join_blocks(group: int, blocks: Sequence[Block]) -> bytes:
    """One body of blocks, at most MAX_BODY_BYTES and MAX_BODY_SAMPLES. ValueError when they are more."""
    raise NotImplementedError


def open_body(body: bytes, limits: FrameLimits) -> Body:
    """Check the header, the checksum, block heads and patches; columns stay closed.

    Raises WireError (400) or BodyTooLarge (413).
    """
    raise NotImplementedError
