"""What all targets share: the lanes that scrapes go to, who else gets them, the clock and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.metrics import CollectorMetrics
from collector.scrape.horizon import Horizon
from collector.spool.options import Draft
from collector.wire.frames import EntryTable, Tick
from collector.wire.headers import PushLane
from kernel.clock import Clock


class FrameSink(Protocol):
    """Where scrapes are stored: a lane of the spool."""

    @property
    def generation(self) -> int:
        """The group that blocks encoded now must belong to."""

    async def append(self, draft: Draft, generation: int) -> int:
        """Durable when it returns. Raises SpoolUnavailable; RootNeeded, before anything else runs."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of the spool, and up to when all of it is there."""

    name: PushLane
    sink: FrameSink
    horizon: Horizon


class RowReceivers(Protocol):
    """Who else gets the rows of each scrape: receivers of remote write."""

    async def take(self, table: EntryTable, tick: Tick) -> None:
        """Every tick of every stream, in order, before the next scrape changes its arrays."""


@dataclass(frozen=True, slots=True)
class ScrapeContext:
    """What all targets share. `lanes`: billing, then bulk."""

    clock: Clock
    lanes: Sequence[Lane]
    metrics: CollectorMetrics
    is_billing: Callable[[str], bool] = lambda name: True
    receivers: RowReceivers | None = None
