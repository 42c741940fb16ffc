"""What an organization's gauges said, run of hours after run: the next ones are read while one is computed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from kernel.ids import OrganizationId
from kernel.window import Window
from metering.usage.meter import GaugeMeter
from metering.usage.reading import GaugeReading


class GaugeSource(Protocol):
    """Where readings come from. Each method raises Retry kinds for passing faults."""

    async def gauges(
        self,
        organization: OrganizationId,
        window: Window,
        meter: GaugeMeter,
        limit_ms: int,
        snapshot_id: int | None,
    ) -> GaugeReading:
        """What the meter counts of the window's samples in a snapshot of the lake; None: it held nothing."""


class ReadAhead:
    """One organization's readings. A run that follows the one before gets its last samples from there, not again.

    So a day is read once. Call `close` in the end.
    """

    def __init__(
        self,
        source: GaugeSource,
        organization: OrganizationId,
        meter: GaugeMeter,
        limit_ms: int,
        snapshot_id: int | None,
    ) -> None:
        self._source = source
        self._organization = organization
        self._meter = meter
        self._limit_ms = limit_ms
        self._snapshot_id = snapshot_id
        self._tail: tuple[int, GaugeReading] | None = None  # what may hold on, and from when on
        self._coming: deque[tuple[Window, asyncio.Task[GaugeReading]]] = deque()

    async def of(self, span: Window) -> GaugeReading:
        """Everything that holds in the span. Raises what the source raises."""
        if self._coming and not _serves(self._coming[0][0], span):
            await self.close()
        self.begin(span)
        coming, task = self._coming[0]
        reading = await task
        self._coming.popleft()
        if self._tail is not None and self._tail[0] == coming.start_ms:
            reading = reading.after(self._tail[1])
        self._tail = span.end_ms, reading.tail(span.end_ms - self._limit_ms)
        return reading

    def begin(self, span: Window) -> None:
        """Start to read a span that may be asked for later; spans come in order of time, each perhaps again."""
        end_ms = self._coming[-1][0].end_ms if self._coming else self._tail[0] if self._tail else None
        if self._coming and end_ms is not None and span.end_ms <= end_ms:
            return
        window = span if span.start_ms == end_ms else Window(span.start_ms - self._limit_ms, span.end_ms)
        self._coming.append((span, asyncio.create_task(self._read(window))))

    async def close(self) -> None:
        """Give up what is being read."""
        tasks = [task for _, task in self._coming]
        self._coming.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, window: Window) -> GaugeReading:
        return await self._source.gauges(self._organization, window, self._meter, self._limit_ms, self._snapshot_id)


def _serves(coming: Window, span: Window) -> bool:
    return coming.start_ms <= span.start_ms and coming.end_ms == span.end_ms
