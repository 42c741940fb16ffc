"""Closes hours of the catalogue's meters, as the hours of the licence are closed and at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import pyarrow as pa

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.ids import OrganizationId
from kernel.window import Window
from metering.lake.scan import PlacedSamples
from metering.meters.catalogue import Catalogue
from metering.meters.hours import meter_hours
from metering.meters.places import Placed
from metering.meters.series import UP, series_of
from metering.meters.store import MetersOfHour, MeterStore
from metering.usage.closer import DueHours


class MeterSource(Protocol):
    """What meters need of the lake. Raises Retry kinds for passing faults."""

    async def scan(
        self, organization: OrganizationId, window: Window, names: Sequence[str], snapshot_id: int | None
    ) -> PlacedSamples:
        """Samples of these metrics in a snapshot of the lake, and where they stand; None: it held nothing."""

    async def starts(self, organization: OrganizationId, window: Window) -> pa.Table:
        """When counters began, see `metering.lake`."""


@dataclass(frozen=True, slots=True)
class MeterCloser:
    """Every meter of one catalogue. Safe to run twice: sealing is idempotent."""

    source: MeterSource
    store: MeterStore
    catalogue: Catalogue
    clock: Clock
    limit_ms: int

    async def checked(self, organization: OrganizationId, window: Window) -> Mapping[int, str]:
        """What each closed hour was computed from, by start of the hour."""
        return await asyncio.to_thread(self.store.checked, organization, window)

    async def close(self, due: DueHours, checked: Mapping[int, str]) -> int:
        """Seal every due hour that other files or another catalogue touch; returns revisions written.

        `checked` is what the store said before the files were listed. Raises HoursMoved, Conflict, and what lake
        and database raise.
        """
        await asyncio.to_thread(self.store.add_catalogue, self.catalogue, self.clock.now_ms())
        written, is_changed = 0, False
        for hours in due.days:
            stale = [each for each in hours if checked.get(each.start_ms) != self._digest(due, each)]
            if not stale and not is_changed:
                continue
            first_ms = hours[0].start_ms if is_changed else stale[0].start_ms
            run = [each for each in hours if each.start_ms >= first_ms]
            sealed = await self._seal(due, run, checked if not is_changed else None)
            is_changed = sealed > 0
            written += sealed
        return written

    async def _seal(self, due: DueHours, run: Sequence[Window], checked: Mapping[int, str] | None) -> int:
        span = Window(run[0].start_ms, run[-1].end_ms)
        names = [*self.catalogue.metrics, UP]
        read = await self.source.scan(due.organization, span, names, due.snapshot_id)
        starts = await self.source.starts(due.organization, span)
        return await asyncio.to_thread(self._compute, due, run, (read, starts), checked)

    def _compute(
        self,
        due: DueHours,
        run: Sequence[Window],
        read: tuple[PlacedSamples, pa.Table],
        checked: Mapping[int, str] | None,
    ) -> int:
        scanned, starts = read
        series, placed = series_of(scanned.samples, starts), Placed.of(scanned.series, scanned.ranges)
        names = [meter.meter for meter in self.catalogue.meters]
        span = Window(run[0].start_ms, run[-1].end_ms)
        # After a change this closer itself made the store forget the check of the next day's first hour.
        expected = self.store.checked(due.organization, span) if checked is None else checked
        carried = self.store.state(due.organization, names, run[0].start_ms)
        found = {
            meter.meter: meter_hours(meter, series, carried[meter.meter], run, self.limit_ms, placed)
            for meter in self.catalogue.meters
        }
        to_seal = [
            MetersOfHour(
                hour,
                {name: hours[number] for name, hours in found.items()},
                due.sources.get(hour.start_ms, ()),
                self._digest(due, hour),
                due.snapshot_id,
                "watermark" if hour.end_ms <= due.watermark_ms else "deadline",
            )
            for number, hour in enumerate(run)
        ]
        crash_point("meters.computed")
        return self.store.seal(due.organization, self.catalogue, to_seal, self.clock.now_ms(), expected)

    def _digest(self, due: DueHours, hour: Window) -> str:
        names = (*due.sources.get(hour.start_ms, ()), self.catalogue.name)
        return sha256("\n".join(names).encode()).hexdigest()
