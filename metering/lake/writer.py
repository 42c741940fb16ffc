"""The lake writer: reads both sample topics and commits them to the lake, every record as if once.

The lake's own positions are the truth; the group's positions in the log only show the lag. When a partition comes,
the reader is sent to the lake's position; when another writer turns out to have been there, what is in memory is
dropped and read again from the lake's position.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import Retry
from kernel.ids import new_id
from kernel.log import LeaseLost, Log, LogReader, LogUnavailable, StoredRecord, TopicPartition
from kernel.logs import logger
from metering.lake.api import Lake
from metering.lake.errors import Fenced, LogReplaced
from metering.lake.flush import Flush, prepare, store
from metering.lake.housekeeping import Housekeeper
from metering.lake.intake import Intake
from metering.lake.memory import keep_freed_memory
from metering.lake.metrics import LakeMetrics
from metering.lake.pace import commit_after_seconds
from metering.lake.refusals import Refusals
from metering.lake.series import SeriesIndex
from metering.lake.series_table import learn_stored
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper
from metering.record import HISTORY_TOPIC, LIVE_TOPIC

GROUP = "lake"
TOPICS = (LIVE_TOPIC, HISTORY_TOPIC)
_MAX_BACKOFF_SECONDS = 60.0
_log = logger("lake")
T = TypeVar("T")


class LakeWriter:
    """One writer. `run` it in a service, or `drain` it by hand; not both at once."""

    def __init__(
        self,
        lake: Lake,
        log: Log,
        settings: LakeSettings | None = None,
        clock: Clock | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._lake = lake
        self._log = log
        self._settings = settings or LakeSettings()
        self._clock = clock or lake.clock
        self._metrics = LakeMetrics(registry or CollectorRegistry())
        self._refusals = Refusals(log)
        self._places = lake.places
        self._sweeper = Sweeper(lake, self._settings, self._clock)
        self._intake = Intake(SeriesIndex(), self._settings.days_per_record)
        self._flush: Flush | None = None
        self._pending_since: float | None = None
        self._housekeeper = Housekeeper(self._places, self._sweeper, self._settings, self._clock, self._metrics)
        self._fenced = 0
        self._failures = 0
        self._stored = 0

    async def run(self) -> None:
        """Store until cancelled. Raises Stop when two writers keep fencing each other, or the log was replaced.

        Faults of the catalog, the warehouse, the objects or the log are waited out, with what is in memory kept.
        """
        reader = await self._open()
        try:
            while True:
                try:
                    await self._turn(reader)
                    self._failures = 0
                except Retry as error:
                    await self._back_off(error)
        finally:
            await self._refusals.close()
            await reader.close()

    async def drain(self) -> int:
        """Store everything that the log holds now; the number of samples stored. Raises Retry kinds and Stop."""
        before, ends = self._stored, await self._ends()
        reader = await self._open()
        try:
            while await self._lags_behind(ends):
                await self._take(reader, timeout_seconds=0.2)
                while not (self._is_full() or self._has_read(ends)):
                    await self._take(reader, timeout_seconds=0.2)
                await self._store(reader)
        finally:
            await self._refusals.close()
            await reader.close()
        return self._stored - before

    def not_ready(self) -> str | None:
        """For the service's readiness: why the lake falls behind, or None."""
        return f"{self._failures} failed commits in a row" if self._failures >= 3 else None

    async def _open(self) -> LogReader:
        keep_freed_memory()
        self._intake = Intake(SeriesIndex(), self._settings.days_per_record)
        self._flush = None
        await asyncio.to_thread(learn_stored, self._lake.tables, self._intake.series, self._settings.cached_series)
        return await self._log.reader(GROUP, TOPICS)

    async def _turn(self, reader: LogReader) -> None:
        if self._flush is None:
            await self._take(reader, self._wait_seconds())
        if self._flush is not None or self._is_full() or self._is_due():
            await self._store(reader)
        await self._housekeeper.turn()

    async def _take(self, reader: LogReader, timeout_seconds: float) -> None:
        records = await reader.poll(self._settings.poll_records, timeout_seconds)
        come = await self._follow_assignment(reader)
        await self._admit([record for record in records if record.source not in come])

    async def _admit(self, records: Sequence[StoredRecord]) -> None:
        if records and self._pending_since is None:
            self._pending_since = self._clock.monotonic()
        await asyncio.to_thread(self._intake.admit, records)
        self._show_pending()
        if records:
            crash_point("lake.admitted")

    async def _follow_assignment(self, reader: LogReader) -> frozenset[TopicPartition]:
        held, assigned = frozenset(self._intake.pending), reader.assignment()
        self._intake.release(held - assigned)
        come = assigned - held
        if come:
            await self._stand_at_lake(reader, come)
        return come

    async def _stand_at_lake(self, reader: LogReader, sources: frozenset[TopicPartition]) -> None:
        state = await asyncio.to_thread(self._lake.tables.samples)
        ends = await self._ends()
        standings = {source: state.standing(source) for source in sources}
        for source, (position, _) in standings.items():
            if position > ends.get(source, 0):
                raise LogReplaced(
                    f"the lake holds {source.topic}/{source.partition} up to {position}, the log ends at "
                    f"{ends.get(source, 0)}: this is another log; open the log that the lake was written from"
                )
        # The horizon only grows for what others hold, so the newest serves the partitions held already too.
        self._intake.horizon = await self._lake.horizons.load(state.horizon_sha256)
        self._intake.begin(standings)
        await reader.seek({source: standing.replay_from for source, standing in standings.items()})

    async def _ends(self) -> Mapping[TopicPartition, int]:
        ends: dict[TopicPartition, int] = {}
        for topic in TOPICS:
            ends.update(await self._log.end_offsets(topic))
        return ends

    def _has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        return all(self._intake.has_read(source, ends[source]) for source in self._intake.pending)

    async def _lags_behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        positions = (await asyncio.to_thread(self._lake.tables.samples)).positions
        return any(positions.get(source, 0) < end for source, end in ends.items())

    async def _store(self, reader: LogReader) -> None:
        if self._flush is None:
            if all(pending.is_empty for pending in self._intake.pending.values()):
                return
            rows = self._settings.row_group_rows
            self._flush = await asyncio.to_thread(prepare, self._intake, self._lake.tables, new_id("commit"), rows)
        started = self._clock.monotonic()
        try:
            self._intake.horizon = await _finish(store(self._flush, self._places, self._refusals))
        except Fenced as error:
            self._abandon(error)
            return
        self._fenced = 0
        self._count(self._flush, self._clock.monotonic() - started)
        await self._settle(reader, self._flush)

    async def _settle(self, reader: LogReader, flush: Flush) -> None:
        self._flush = None
        self._pending_since = None
        self._intake.series.mark_stored(flush.series_slots)
        positions = {source: standing.position for source, standing in flush.commit.following.items()}
        self._intake.go_on(positions)
        self._bound_series()
        self._show_pending()
        # Information for those who watch the lag; the lake's own positions decide.
        with suppress(LeaseLost, LogUnavailable):
            await reader.commit(positions)
        crash_point("lake.group-committed")
        await self._sweeper.committed()

    def _bound_series(self) -> None:
        series, limit = self._intake.series, self._settings.cached_series
        if series.is_over(limit):
            series.forget_labels()
        if series.is_over(limit) or series.is_worn(limit):
            # Readers of frames hold slots of the old index, so each partition begins again, where its state begins.
            self._intake.forget()
            self._intake.series = SeriesIndex()

    def _abandon(self, error: Fenced) -> None:
        self._metrics.fenced.inc()
        self._fenced += 1
        _log.warning("batch_abandoned", reason=str(error), in_a_row=self._fenced)
        self._flush = None
        self._pending_since = None
        self._intake.forget()  # whatever is still assigned counts as newly come, and starts at the lake's position
        if self._fenced >= self._settings.fenced_limit:
            raise error

    async def _back_off(self, error: Retry) -> None:
        self._failures += 1
        self._metrics.failures.inc()
        _log.warning("lake_waits", reason=str(error), cause=repr(error.__cause__), in_a_row=self._failures)
        seconds = min(_MAX_BACKOFF_SECONDS, self._settings.retry_seconds * 2 ** min(self._failures - 1, 10))
        await self._clock.sleep(seconds * random.uniform(0.5, 1.0))

    def _is_full(self) -> bool:
        pending = self._intake.pending.values()
        return (
            sum(each.samples for each in pending) >= self._settings.commit_samples
            or sum(each.size_bytes for each in pending) >= self._settings.commit_bytes
        )

    def _is_due(self) -> bool:
        return self._pending_since is not None and self._wait_seconds() <= 0

    def _wait_seconds(self) -> float:
        if self._pending_since is None:
            return min(1.0, self._settings.commit_seconds)
        intake = self._intake
        after = commit_after_seconds(intake.files, self._settings, ends_an_hour=intake.ends_an_hour)
        left = self._pending_since + after - self._clock.monotonic()
        return min(1.0, max(0.0, left))

    def _show_pending(self) -> None:
        self._metrics.pending.set(sum(each.samples for each in self._intake.pending.values()))
        since = self._pending_since
        self._metrics.pending_age.set(self._clock.monotonic() - since if since is not None else 0)

    def _count(self, flush: Flush, seconds: float) -> None:
        metrics = self._metrics
        metrics.commits.inc()
        metrics.commit_seconds.observe(seconds)
        metrics.samples.inc(flush.samples)
        self._stored += flush.samples
        metrics.duplicates.inc(flush.duplicates)
        metrics.dead.inc(len(flush.dead))
        for pending in self._intake.pending.values():
            metrics.repeated.inc(pending.repeated_pushes)
            metrics.dropped_exemplars.inc(pending.beside.dropped_exemplars)
            metrics.missing.inc(max(0, pending.missing_pushes))
            metrics.skipped.inc(pending.skipped_offsets)
            for reason, numbers in pending.given_up.items():
                metrics.given_up.labels(reason).inc(numbers)


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even when this task is cancelled meanwhile: its threads would go on anyway."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await task
        raise
