"""Closes hours: at the watermark when collectors say they are complete, at a deadline when they do not.

A closed hour is sealed: it never changes. The closer remembers which lake files an hour was computed from; when
later files touch it, it computes the hour again and stores the next revision if a figure differs, and goes on to
the following hours, since what existed at the end of one hour may be missing in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import pyarrow as pa
from prometheus_client import CollectorRegistry, Counter

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.ids import OrganizationId
from kernel.logs import logger
from kernel.window import DAY_MS, HOUR_MS, Window, day_of, hours_in
from metering.usage.hours import component_hours
from metering.usage.meter import LICENCE_METER, TARGET_UP, GaugeMeter
from metering.usage.settings import UsageSettings
from metering.usage.store import HourToSeal, UsageStore

_log = logger("usage")


@dataclass(frozen=True, slots=True)
class SampleFile:
    """An immutable lake file: its name, content hash and the times of its samples."""

    name: str
    sha256: str
    first_ms: int
    last_ms: int


class SampleSource(Protocol):
    """What usage needs of the lake. Each method raises Retry kinds for passing faults."""

    async def organizations(self) -> Sequence[OrganizationId]:
        """Every organization with samples."""

    async def files(self, organization: OrganizationId, window: Window) -> Sequence[SampleFile]:
        """The files that may hold samples of the window."""

    async def scan(self, organization: OrganizationId, window: Window, names: Sequence[str]) -> pa.Table:
        """Samples of these metrics, see `metering.lake`."""

    async def watermark(self, organization: OrganizationId) -> int | None:
        """Everything before it (ms) has arrived; None while no collector says so."""

    async def snapshot_id(self) -> int | None:
        """The lake snapshot that reads see now."""


class HourCloser:
    """The usage job of one vendor. Safe to run twice: sealing is idempotent."""

    def __init__(
        self,
        source: SampleSource,
        store: UsageStore,
        settings: UsageSettings,
        clock: Clock,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._settings = settings
        self._clock = clock
        self._meter: GaugeMeter = LICENCE_METER
        self._limit_ms = round(settings.staleness_limit_seconds * 1000)
        self._sealed = Counter("byoc_usage_revisions", "Hour revisions sealed", registry=registry)

    async def run(self) -> None:
        """Close and revise until cancelled. A passing fault of lake or database waits for the next turn."""
        while True:
            try:
                for organization in await self._source.organizations():
                    await self.close_due(organization)
            except Retry as error:
                _log.warning("usage_waits", error=str(error))
            await self._clock.sleep(self._settings.check_interval_seconds)

    async def close_due(self, organization: OrganizationId) -> int:
        """Close every hour that is due and revise every one that late files touch; returns revisions written."""
        now_ms = self._clock.now_ms()
        horizon_ms = now_ms - self._settings.revision_days * DAY_MS
        files = await self._source.files(organization, Window(horizon_ms - horizon_ms % HOUR_MS, now_ms + HOUR_MS))
        if not files:
            return 0
        start_ms = max(horizon_ms, min(file.first_ms for file in files))
        return await self._close_from(organization, start_ms - start_ms % HOUR_MS, None, files)

    async def close_window(self, organization: OrganizationId, window: Window) -> int:
        """Close every hour of a window that is due (a month, before it is invoiced); returns revisions written."""
        before = Window(window.start_ms - self._limit_ms, window.end_ms)
        files = await self._source.files(organization, before)
        return await self._close_from(organization, window.start_ms, window.end_ms, files)

    async def _close_from(
        self, organization: OrganizationId, start_ms: int, end_ms: int | None, files: Sequence[SampleFile]
    ) -> int:
        now_ms = self._clock.now_ms()
        watermark_ms = min(await self._source.watermark(organization) or 0, now_ms)
        due_ms = max(now_ms - round(self._settings.close_deadline_seconds * 1000), watermark_ms)
        due_ms = min(due_ms - due_ms % HOUR_MS, due_ms if end_ms is None else end_ms)
        if due_ms <= start_ms:
            return 0
        window = Window(start_ms, due_ms)
        checked = await asyncio.to_thread(self._store.checked, organization, window)
        written = 0
        is_changed = False  # a revised hour may change what was open, so the hours after it are looked at too
        for hours in _by_day(window):
            touched = [
                hour for hour in hours if is_changed or checked.get(hour.start_ms) != self._digest(files, hour)
            ]
            if touched:
                run = [hour for hour in hours if hour.start_ms >= touched[0].start_ms]
                sealed = await self._seal(organization, run, files, watermark_ms)
                is_changed = sealed > 0
                written += sealed
        self._sealed.inc(written)
        return written

    async def _seal(
        self, organization: OrganizationId, hours: Sequence[Window], files: Sequence[SampleFile], watermark_ms: int
    ) -> int:
        snapshot_id = await self._source.snapshot_id()
        span = Window(hours[0].start_ms - self._limit_ms, hours[-1].end_ms)
        table = await self._source.scan(organization, span, [self._meter.metric, TARGET_UP])

        def compute_and_seal() -> int:
            open_before = self._store.open_components(organization, hours[0].start_ms)
            found = component_hours(table, self._meter, hours, self._limit_ms, open_before)
            to_seal = [
                HourToSeal(
                    organization=organization,
                    hour=hour,
                    components=tuple(found[hour]),
                    sources=tuple(f"{file.name} {file.sha256}" for file in self._overlapping(files, hour)),
                    files_digest=self._digest(files, hour),
                    snapshot_id=snapshot_id,
                    reason="watermark" if hour.end_ms <= watermark_ms else "deadline",
                )
                for hour in hours
            ]
            return self._store.seal(to_seal, self._clock.now_ms())

        return await asyncio.to_thread(compute_and_seal)

    def _overlapping(self, files: Sequence[SampleFile], hour: Window) -> list[SampleFile]:
        start_ms = hour.start_ms - self._limit_ms  # a sample before the hour holds into it
        return sorted(
            (file for file in files if file.first_ms < hour.end_ms and file.last_ms >= start_ms),
            key=lambda file: file.name,
        )

    def _digest(self, files: Sequence[SampleFile], hour: Window) -> str:
        names = "\n".join(file.name for file in self._overlapping(files, hour))
        return sha256(names.encode()).hexdigest()


def _by_day(window: Window) -> Iterator[list[Window]]:
    """The hours of the window, a list for each UTC day: one scan reads one day."""
    start_ms = window.start_ms
    while start_ms < window.end_ms:
        day = Window(start_ms, min(day_of(start_ms).end_ms, window.end_ms))
        yield list(hours_in(day))
        start_ms = day.end_ms
