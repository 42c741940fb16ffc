"""Closes hours: at the watermark when collectors say they are complete, at a deadline when they do not.

A closed hour is sealed: it never changes. The closer remembers which lake files an hour was computed from; when
later files touch it, it computes the hour again and stores the next revision if a figure differs, and goes on to
the following hours, since what existed at the end of one hour may be missing in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import Retry
from kernel.ids import OrganizationId
from kernel.logs import logger
from kernel.window import DAY_MS, HOUR_MS, Window, day_of, hour_of, hours_in, whole_hours
from metering.usage.hours import component_hours
from metering.usage.meter import LICENCE_METER, GaugeMeter
from metering.usage.read_ahead import GaugeSource, ReadAhead
from metering.usage.reading import GaugeReading
from metering.usage.sample_files import FilesByHour, SampleFiles
from metering.usage.sealing import HourToSeal
from metering.usage.settings import UsageSettings
from metering.usage.store import HoursMoved, UsageStore

_log = logger("usage")
WINDOW_ATTEMPTS = 1000
DAYS_AHEAD = 2  # that are read while one is computed


class SampleSource(GaugeSource, Protocol):
    """What usage needs of the lake. Each method raises Retry kinds for passing faults, HoursMoved for a snapshot
    that is not there any more.
    """

    async def organizations(self) -> Sequence[OrganizationId]:
        """Every organization with samples."""

    async def files(self, organization: OrganizationId, window: Window) -> SampleFiles:
        """The files that may hold samples of the window now: what is read of their snapshot is of them."""

    async def watermark(self, organization: OrganizationId) -> int | None:
        """Everything before it (ms) has arrived; None while no collector says so."""


@dataclass(frozen=True, slots=True)
class DueHours:
    """Hours to close, by UTC day, and what each is computed from."""

    organization: OrganizationId
    days: Sequence[Sequence[Window]]
    sources: Mapping[int, tuple[str, ...]]  # by start of the hour: "file sha256"
    snapshot_id: int | None  # that these are the files of
    watermark_ms: int


class MetersToClose(Protocol):
    """The meters of a catalogue, closed with the licence's."""

    async def checked(self, organization: OrganizationId, window: Window) -> Mapping[int, str]:
        """What each closed hour was computed from, by start of the hour."""

    async def close(self, due: DueHours, checked: Mapping[int, str]) -> int:
        """Seal what is due and touched; returns revisions written. Raises HoursMoved."""


class HourCloser:
    """The usage job of one vendor. Safe to run twice: sealing is idempotent."""

    def __init__(
        self,
        source: SampleSource,
        store: UsageStore,
        settings: UsageSettings,
        clock: Clock,
        registry: CollectorRegistry | None = None,
        meters: MetersToClose | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._settings = settings
        self._clock = clock
        self._meter: GaugeMeter = LICENCE_METER
        self._meters = meters
        self._limit_ms = round(settings.staleness_limit_seconds * 1000)
        self._sights: dict[OrganizationId, _Sight] = {}  # of looks that found nothing to do
        self._sealed = Counter("byoc_usage_revisions", "Hour revisions sealed", registry=registry)

    async def run(self) -> None:
        """Close and revise until cancelled. A passing fault of lake or database waits for the next turn."""
        while True:
            try:
                for organization in await self._source.organizations():
                    await self._close_patiently(organization)
            except Retry as error:
                _log.warning("usage_waits", error=str(error))
            await self._clock.sleep(self._settings.check_interval_seconds)

    async def _close_patiently(self, organization: OrganizationId) -> None:
        try:
            await self.close_due(organization)
        except HoursMoved as moved:
            _log.info("usage_looks_again", reason=str(moved))

    async def close_due(self, organization: OrganizationId) -> int:
        """Close every hour that is due and revise every one that late files touch; returns revisions written.

        Raises HoursMoved when another closer was there in between, and what lake and database raise.
        """
        now_ms = self._clock.now_ms()
        horizon_ms = now_ms - self._settings.revision_days * DAY_MS
        reach = Window(horizon_ms - horizon_ms % HOUR_MS, now_ms)
        known = self._sights.get(organization)
        if known is not None and known == await self._sight(organization, reach):
            return 0
        return await self._close(organization, reach, from_first_file=True)

    async def _sight(self, organization: OrganizationId, reach: Window) -> _Sight:
        end_ms, _ = await self._due(organization, reach)
        listed = await self._source.files(organization, self._before(reach))
        of_licence, of_meters = await asyncio.to_thread(self._store.checked_counts, organization, reach)
        return _Sight.of(reach, end_ms, listed, (of_licence, of_meters if self._meters else 0))

    def _before(self, reach: Window) -> Window:
        """The reach, and whose samples may hold into it."""
        return Window(reach.start_ms - self._limit_ms, reach.end_ms)

    async def close_window(self, organization: OrganizationId, window: Window) -> int:
        """Close every hour of a window that is due, say a month; returns the revisions that its last look wrote.

        Beside another closer it looks again each time that one was faster, and skips what is sealed: together they
        get through the window. Raises HoursMoved if that takes more than `WINDOW_ATTEMPTS` looks.
        """
        for _ in range(WINDOW_ATTEMPTS):
            try:
                return await self._close(organization, whole_hours(window), from_first_file=False)
            except HoursMoved as moved:
                last = moved
                await self._clock.sleep(0)
        raise last

    async def _close(self, organization: OrganizationId, reach: Window, *, from_first_file: bool) -> int:
        # What was checked is read before the files are listed: a closer that seals in between is then seen.
        checked = await asyncio.to_thread(self._store.checked, organization, reach)
        of_meters = await self._meters.checked(organization, reach) if self._meters else {}
        # The watermark before the files: what it says is complete is in them.
        end_ms, watermark_ms = await self._due(organization, reach)
        listed = await self._source.files(organization, self._before(reach))
        start_ms = reach.start_ms
        if from_first_file:  # before its first sample an organization has no hours to close
            start_ms = max(
                start_ms, hour_of(min((file.first_ms for file in listed.files), default=end_ms)).start_ms
            )
        if end_ms <= start_ms:
            return 0
        by_hour = FilesByHour(listed.files, self._limit_ms)
        days = tuple(_by_day(Window(start_ms, end_ms)))
        written = await self._seal_days(
            _Due(organization, days, by_hour, listed.snapshot_id, checked, watermark_ms)
        )
        metered = 0
        if self._meters:
            sources = {hour.start_ms: by_hour.sources(hour) for hours in days for hour in hours}
            due = DueHours(organization, days, sources, listed.snapshot_id, watermark_ms)
            metered = await self._meters.close(due, of_meters)
        self._sealed.inc(written + metered)
        if from_first_file and not written + metered:  # else a revision may make the next look find more
            self._sights[organization] = _Sight.of(reach, end_ms, listed, (len(checked), len(of_meters)))
        return written

    async def _seal_days(self, due: _Due) -> int:
        written = 0
        is_changed = False  # a revised hour may change what was open, so the hours after it are looked at too
        reader = ReadAhead(self._source, due.organization, self._meter, self._limit_ms, due.snapshot_id)
        try:
            for number, hours in enumerate(due.days):
                run = hours if is_changed else due.touched(number)
                if not run:
                    continue
                reading = await reader.of(_span(run))
                for later in range(number + 1, min(number + 1 + DAYS_AHEAD, len(due.days))):
                    if following := due.touched(later):
                        reader.begin(_span(following))
                sealed = await asyncio.to_thread(self._compute_and_seal, due, run, reading)
                is_changed = sealed > 0
                if is_changed:
                    await self._forget_as_the_store_did(due.organization, hour_of(run[-1].end_ms), due.checked)
                written += sealed
        finally:
            await reader.close()
        return written

    async def _forget_as_the_store_did(
        self, organization: OrganizationId, following: Window, checked: dict[int, str]
    ) -> None:
        """A revision of the last hour of a run makes the store forget the check of the hour after it."""
        if not await asyncio.to_thread(self._store.checked, organization, following):
            checked.pop(following.start_ms, None)

    async def _due(self, organization: OrganizationId, reach: Window) -> tuple[int, int]:
        """End of the last hour in reach that may be closed now, and the watermark, both ms."""
        now_ms = self._clock.now_ms()
        watermark_ms = min(await self._source.watermark(organization) or 0, now_ms)
        due_ms = max(now_ms - round(self._settings.close_deadline_seconds * 1000), watermark_ms)
        return min(due_ms - due_ms % HOUR_MS, reach.end_ms), watermark_ms

    def _compute_and_seal(self, due: _Due, run: Sequence[Window], reading: GaugeReading) -> int:
        open_before = self._store.open_components(due.organization, run[0].start_ms)
        found = component_hours(reading, run, self._limit_ms, open_before)
        to_seal = [
            HourToSeal(
                organization=due.organization,
                hour=hour,
                components=each.components,
                step=each.step,
                sources=due.files.sources(hour),
                files_digest=due.files.digest(hour),
                snapshot_id=due.snapshot_id,
                reason="watermark" if hour.end_ms <= due.watermark_ms else "deadline",
            )
            for hour, each in zip(run, found, strict=True)
        ]
        crash_point("usage.computed")
        return self._store.seal(to_seal, self._clock.now_ms(), due.checked)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a look depends on: as long as it is the same, all has been sealed that can be."""

    start_ms: int
    end_ms: int
    files: int  # hash of their names
    checked: tuple[int, int]  # hours that need no look, of licence and meters: a revision takes the next one away

    @classmethod
    def of(cls, reach: Window, end_ms: int, listed: SampleFiles, checked: tuple[int, int]) -> _Sight:
        return cls(reach.start_ms, end_ms, hash(tuple(file.name for file in listed.files)), checked)


@dataclass(frozen=True, slots=True)
class _Due:
    """Hours that may be closed, by UTC day, and what is known of them."""

    organization: OrganizationId
    days: Sequence[Sequence[Window]]
    files: FilesByHour
    snapshot_id: int | None
    checked: dict[int, str]
    watermark_ms: int

    def touched(self, day: int) -> Sequence[Window]:
        """The hours of a day from the first on whose files are others than those it was computed from."""
        hours = self.days[day]
        for number, hour in enumerate(hours):
            if self.checked.get(hour.start_ms) != self.files.digest(hour):
                return hours[number:]
        return []


def _span(hours: Sequence[Window]) -> Window:
    return Window(hours[0].start_ms, hours[-1].end_ms)


def _by_day(window: Window) -> Iterator[list[Window]]:
    """The hours of the window, a list for each UTC day: one scan reads one day."""
    start_ms = window.start_ms
    while start_ms < window.end_ms:
        day = Window(start_ms, min(day_of(start_ms).end_ms, window.end_ms))
        yield list(hours_in(day))
        start_ms = day.end_ms
