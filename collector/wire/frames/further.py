"""What follows the exemplars in the extras: parts that a reader may not know, so it passes over those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collector.wire.frames import metadata, starts
from collector.wire.frames.layout import Cursor
from collector.wire.frames.model import FamilyMetadata, FrameLimits, Starts

_MOST_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Further:
    """The parts that we know."""

    starts: Starts | None = None
    metadata: Sequence[FamilyMetadata] = ()


def parse_further(cursor: Cursor, at_ms: int, capacity: int, limits: FrameLimits) -> Further:
    """What follows the exemplars; slots are below `capacity`, else not checked. Raises WireError."""
    found = Further()
    while cursor.position < cursor.end:
        kind = cursor.varint()
        part = Cursor(cursor.take(cursor.varint(_MOST_BYTES)), f"{cursor.where}, part {kind}")
        if kind == starts.KIND:
            if found.starts is not None:
                raise part.wrong("starts again", "once")
            found.starts = starts.parse_starts(part, at_ms, capacity)
        elif kind == metadata.KIND:
            if found.metadata:
                raise part.wrong("metadata again", "once")
            found.metadata = metadata.parse_metadata(part, limits)
    return found
