"""What an organization's gauges said, run of hours after run: the next one is read while one is computed."""

from __future__ import annotations

import asyncio
from typing import Protocol

from kernel.ids import OrganizationId
from kernel.window import Window
from metering.usage.meter import GaugeMeter
from metering.usage.reading import GaugeReading


class GaugeSource(Protocol):
    """Where readings come from. Each method raises Retry kinds for passing faults."""

    async def gauges(
        self, organization: OrganizationId, window: Window, meter: GaugeMeter, limit_ms: int
    ) -> GaugeReading:
        """What the meter counts of the window's samples."""


class ReadAhead:
    """One organization's readings. A run that follows the one before gets its last samples from there, not again.

    So a day is read once. Call `close` in the end.
    """

    def __init__(self, source: GaugeSource, organization: OrganizationId, meter: GaugeMeter, limit_ms: int) -> None:
        self._source = source
        self._organization = organization
        self._meter = meter
        self._limit_ms = limit_ms
        self._tail: tuple[int, GaugeReading] | None = None  # what may hold on, and from when on
        self._coming: tuple[Window, asyncio.Task[GaugeReading]] | None = None

    async def of(self, span: Window) -> GaugeReading:
        """Everything that holds in the span. Raises what the source raises."""
        self.begin(span)
        assert self._coming is not None
        coming, task = self._coming
        if coming.start_ms > span.start_ms or coming.end_ms != span.end_ms:
            await self.close()
            return await self.of(span)
        reading = await task
        self._coming = None
        if self._tail is not None and self._tail[0] == coming.start_ms:
            reading = reading.after(self._tail[1])
        self._tail = span.end_ms, reading.tail(span.end_ms - self._limit_ms)
        return reading

    def begin(self, span: Window) -> None:
        """Start to read a span that may be asked for next; nothing if one is being read."""
        if self._coming is None:
            follows = self._tail is not None and self._tail[0] == span.start_ms
            window = span if follows else Window(span.start_ms - self._limit_ms, span.end_ms)
            self._coming = span, asyncio.create_task(self._read(window))

    async def close(self) -> None:
        """Give up what is being read."""
        if self._coming is not None:
            (_, task), self._coming = self._coming, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _read(self, window: Window) -> GaugeReading:
        return await self._source.gauges(self._organization, window, self._meter, self._limit_ms)
