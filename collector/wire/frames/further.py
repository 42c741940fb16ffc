"""What follows the exemplars in the extras: parts that a reader may not know, so it passes over those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collector.wire.frames import metadata, starts
from collector.wire.frames.layout import Cursor, too_large
from collector.wire.frames.model import FamilyMetadata, FrameLimits, Starts

_MOST_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Told:
    """What a body may still tell of: none of it is a sample, and little of it takes bytes."""

    rows: int  # exemplars and families
    starts: int

    @classmethod
    def of(cls, limits: FrameLimits) -> Told:
        """All that a body may."""
        return cls(limits.max_told, limits.max_starts)

    def take(self, *, rows: int = 0, starts: int = 0) -> None:
        """Raises BodyTooLarge."""
        self.rows -= rows
        self.starts -= starts
        if self.rows < 0 or self.starts < 0:
            raise too_large("extras", "more exemplars and families, or starts, than a body may have", "fewer")


@dataclass(slots=True)
class Further:
    """The parts that we know."""

    starts: Starts | None = None
    metadata: Sequence[FamilyMetadata] = ()


def parse_further(cursor: Cursor, at_ms: int, capacity: int, limits: FrameLimits, told: Told) -> Further:
    """What follows the exemplars; slots are below `capacity`, else not checked. Raises WireError, BodyTooLarge."""
    found = Further()
    while cursor.position < cursor.end:
        kind = cursor.varint()
        part = Cursor(cursor.take(cursor.varint(_MOST_BYTES)), f"{cursor.where}, part {kind}")
        if kind == starts.KIND:
            if found.starts is not None:
                raise part.wrong("starts again", "once")
            found.starts = starts.parse_starts(part, at_ms, capacity)
            told.take(starts=len(found.starts.slots))
        elif kind == metadata.KIND:
            if found.metadata:
                raise part.wrong("metadata again", "once")
            found.metadata = metadata.parse_metadata(part, limits)
            told.take(rows=len(found.metadata))
    return found
