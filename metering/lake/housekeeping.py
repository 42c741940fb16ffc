"""What the writer does besides writing: merge files, tag months, drop old days, sweep orphans."""

from __future__ import annotations

from kernel.clock import Clock
from metering.lake.compact import Compactor
from metering.lake.errors import LakeDamaged
from metering.lake.metrics import LakeMetrics
from metering.lake.places import Places
from metering.lake.retention import drop_old_days, tag_closed_months
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper

_LOOK_SECONDS = 60.0  # between two looks for files to merge when there were none


class Housekeeper:
    """Called between commits; each call does at most one piece of work of each kind."""

    def __init__(
        self, places: Places, sweeper: Sweeper, settings: LakeSettings, clock: Clock, metrics: LakeMetrics
    ) -> None:
        self._places = places
        self._sweeper = sweeper
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._compactor = Compactor(places, settings)
        self._compact_at = self._sweep_at = clock.monotonic()
        self._sweep_at += settings.sweep_seconds

    async def turn(self) -> None:
        """What is due. Raises Retry kinds."""
        now = self._clock.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + self._settings.sweep_seconds
            now_ms = self._clock.now_ms()
            await tag_closed_months(self._places, now_ms, self._settings.month_tag_days)
            settings = self._settings
            await drop_old_days(self._places, now_ms, settings.retention_days, settings.exemplar_retention_days)
            self._metrics.swept.inc((await self._sweeper.sweep()).files)
        if self._settings.compact_ratio and now >= self._compact_at:
            await self._compact()

    async def _compact(self) -> None:
        started = self._clock.monotonic()
        try:
            done = await self._compactor.compact_one()
        except LakeDamaged:
            # Writing must go on; scans and `byoc lake verify` name the file.
            self._metrics.damaged.inc()
            done = None
        took = self._clock.monotonic() - started
        rest = took * (1 / self._settings.compact_ratio - 1)
        self._compact_at = started + took + (rest if done else max(rest, _LOOK_SECONDS))
        if done:
            self._metrics.compacted.inc(done.files_before)
