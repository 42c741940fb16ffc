"""What a lane is told, what it is given, and what it knows of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from collector.wire.frames import Block
from collector.wire.headers import PushLane

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """Sizes in bytes, times in seconds.

    `drop_oldest`: over the quota, or past `max_age` (0: no bound), the oldest segment goes; else the append is
    refused. A segment ends at `segment` or `segment_age`. `linger`: how long a draft waits for others to share its
    push. `keep`: how long segments are kept after their last receipt, within `keep_bytes`; 0: not at all.
    `fresh_after`: a frame older than that when it is settled makes those behind it a backlog; 0: never.
    """

    lane: PushLane
    quota: int
    segment: int = 16 * 1024 * 1024
    drop_oldest: bool = True
    max_age: float = 0.0
    segment_age: float = 3600.0
    linger: float = 0.0
    keep: float = 0.0
    keep_bytes: int = 0
    fresh_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Draft:
    """Blocks of our own protocol before they have a number: one scrape of one stream in one lane."""

    blocks: Sequence[Block]
    meta: bytes
    samples: int
    complete_through_ms: int | None = None

    @property
    def size(self) -> int:
        """About what it takes on disk."""
        return sum(len(block.content) for block in self.blocks) + len(self.meta) + 128


@dataclass(frozen=True, slots=True)
class PayloadDraft:
    """A body of remote write 2.0, compressed, before it has a number."""

    samples: int
    meta: bytes
    payload: bytes
    complete_through_ms: int | None = None

    @property
    def size(self) -> int:
        return len(self.payload) + len(self.meta) + 76


@dataclass(slots=True)
class Segment:
    """What is known of a segment. `end`: bytes that count (synced); `last`: its last sequence, if known."""

    end: int
    last: int | None = None
    begun_ms: int = 0  # the wall clock when it began, of segments of this boot
    begun: float = 0.0  # the monotonic clock then
    offset: int = 0  # up to where it was read
    read: int = 0  # sequence of the last frame read in it; 0: none
    settled_bytes: int = 0
    waiting: dict[int, int] = field(default_factory=dict)  # read, not settled: sequence -> appended ms

    @property
    def is_done(self) -> bool:
        """Whether all that was written so far is read and settled."""
        return self.offset >= self.end and not self.waiting

    @property
    def pending_bytes(self) -> int:
        return max(0, self.end - self.settled_bytes)
