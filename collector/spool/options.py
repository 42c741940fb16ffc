"""What a lane is told, what it is given, and what it knows of its segments."""

from __future__ import annotations

from dataclasses import dataclass

from collector.wire.headers import PushLane


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """Sizes in bytes. `drop_oldest`: over the quota the oldest segment goes; else the append is refused."""

    lane: PushLane
    quota: int
    segment: int = 16 * 1024 * 1024
    drop_oldest: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """A frame before it has a number."""

    samples: int
    meta: bytes
    payload: bytes
    complete_through_ms: int | None = None


@dataclass(slots=True)
class Segment:
    """What is known of a segment: bytes that count (synced), and its last sequence if this boot wrote it."""

    end: int
    last: int | None = None
