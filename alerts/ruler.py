"""Reads the live topic into the head, and evaluates what is due after each read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from alerts import models, retention
from alerts.collectors import load_collectors, load_forgotten, save_collectors, silence_batch
from alerts.evaluation import GroupResult, evaluate_group
from alerts.metrics import AlertMetrics
from alerts.rule import SILENCE_METRIC, RuleGroup, metrics_of
from alerts.settings import AlertSettings
from alerts.ticks import TickContext, apply_ticks, retire_groups
from alerts.timetable import Due, Timetable, watermark_ms
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import DeadLetter, NotFound, Retry
from kernel.ids import CollectorId, OrganizationId, ProjectId
from kernel.log import Log, LogReader, StoredRecord, TopicPartition
from kernel.logs import logger
from metering.promql.api import Head, HeadLimits, Publisher
from metering.record import LIVE_TOPIC

MAX_RECORDS = 500
READER_GROUP = "alerts"
GROUP_AGE_MS = 4_500_000
"""Frames build on the first record of their group: an hour of scrapes, and the time that a push may take."""
RETRY_SECONDS = 1.0
HOUSEKEEPING_MS = 60_000
TELL_SECONDS = 60.0
VENDOR_PROJECT = ProjectId("vendor")
RESERVED = {
    SILENCE_METRIC: Publisher(VENDOR_PROJECT, CollectorId("alerts-clock")),
    "byoc_licence_": Publisher(VENDOR_PROJECT, CollectorId("vendor-billing")),
    "byoc_contract_": Publisher(VENDOR_PROJECT, CollectorId("vendor-billing")),
    "byoc_usage_unreconciled_hours": Publisher(VENDOR_PROJECT, CollectorId("vendor-usage")),
}
"""Metrics that no tenant may publish, as its own alerts would believe it."""

_log = logger("alerts")


@dataclass(frozen=True, slots=True)
class RulerParts:
    """What the ruler works with."""

    database: Database
    log: Log
    clock: Clock
    settings: AlertSettings
    groups: tuple[RuleGroup, ...]
    metrics: AlertMetrics


class Ruler:
    """One process evaluates: a second would do the same work and tell nothing twice, see `apply_ticks`."""

    def __init__(self, parts: RulerParts, on_transition: Callable[[], None]) -> None:
        self._parts = parts
        self._on_transition = on_transition
        settings = parts.settings
        retention_ms = settings.retention_seconds * 1000
        limits = HeadLimits(retention_ms=retention_ms, series=settings.head_series, bytes=settings.head_bytes)
        self.head = Head(limits, metrics=metrics_of(parts.groups), reserved=RESERVED)
        self.timetable = Timetable(parts.groups, round(settings.watermark_wait_seconds * 1000), retention_ms)
        self._saved: dict[tuple[object, str], int] = {}
        self._housekept_ms = 0
        self._caught_up = False
        self._silent_until, self._untold = float("-inf"), 0  # of records that can't be read
        self._since_ms = 0  # of receipt: older records are read for the state of frames alone

    def not_ready(self) -> str | None:
        """Why alerts are not evaluated yet."""
        return None if self._caught_up else "the head is still reading the log"

    async def run(self) -> None:
        """Until cancelled."""
        await self.restore()
        reader, catch_up = await self._open_reader()
        try:
            while True:
                records = await self._poll(reader)
                await asyncio.to_thread(self.ingest, records)
                self._caught_up = self._caught_up or catch_up.has_reached_end(records)
                if self._caught_up:
                    await self._tick_guarded()
        finally:
            await reader.close()

    async def restore(self) -> None:
        """Take up what the last process stored: collectors, how far each group was evaluated."""
        await self._parts.database.run(self._restore)

    def _restore(self, connection: sa.Connection) -> None:
        for progress in load_collectors(connection):
            self.head.restore(progress)
        now_ms = self._parts.clock.now_ms()
        names = [group.name for group in self._parts.groups]
        retire_groups(connection, names, self._context_at(now_ms), now_ms)
        retention.settle_removed_receivers(connection, self._parts.settings.receivers, now_ms)
        for row in connection.execute(sa.select(models.progress)):
            self.timetable.evaluated[OrganizationId(row.organization), row.rule_group] = row.evaluated_at_ms

    def _context_at(self, now_ms: int) -> TickContext:
        settings = self._parts.settings
        return TickContext(settings.receivers, settings.external_url, now_ms)

    async def _open_reader(self) -> tuple[LogReader, _CatchUp]:
        """A reader that stands alone where the groups of the retention's frames begin, and how far it must read."""
        self._since_ms = self._parts.clock.now_ms() - self._parts.settings.retention_seconds * 1000
        since_ms = self._since_ms - GROUP_AGE_MS
        while True:
            try:
                ends = await self._parts.log.end_offsets(LIVE_TOPIC)
                reader = await self._parts.log.reader(READER_GROUP, [LIVE_TOPIC], since_ms=since_ms)
                return reader, _CatchUp(ends)
            except (Retry, NotFound) as error:
                _log.warning("log_not_ready", error=str(error))
                await self._parts.clock.sleep(RETRY_SECONDS)

    async def _poll(self, reader: LogReader) -> Sequence[StoredRecord]:
        try:
            return await reader.poll(MAX_RECORDS, self._parts.settings.poll_seconds)
        except Retry as error:
            # Evaluation goes on: a collector that can't be heard is silent, whatever the reason.
            _log.warning("log_unavailable", error=str(error))
            await self._parts.clock.sleep(RETRY_SECONDS)
            return ()

    def ingest(self, records: Sequence[StoredRecord]) -> None:
        """Take records into the head. Blocking."""
        for record in records:
            try:
                self._take(record)
                self._parts.metrics.records.labels("read").inc()
            except DeadLetter as error:
                self._parts.metrics.records.labels("dead_letter").inc()
                self._tell_refused(record, error)

    def _tell_refused(self, record: StoredRecord, error: DeadLetter) -> None:
        """One line in a while: a tenant may send as many of them as it likes, and the metric counts each."""
        now = self._parts.clock.monotonic()
        if now < self._silent_until:
            self._untold += 1
            return
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        _log.error("record_refused", **where, not_logged=self._untold, error=str(error))
        self._silent_until, self._untold = now + TELL_SECONDS, 0

    def _take(self, record: StoredRecord) -> None:
        if record.timestamp_ms < self._since_ms:
            self.head.replay(record)
        else:
            self.head.ingest(record)

    async def _tick_guarded(self) -> None:
        try:
            await self.tick()
        except Retry as error:
            _log.warning("tick_postponed", error=str(error))
            await self._parts.clock.sleep(RETRY_SECONDS)

    async def tick(self) -> int:
        """Evaluate what is due and store it in one transaction; returns how many alerts changed their state.

        Raises DatabaseUnavailable: then nothing was stored, and the same times are due again.
        """
        now_ms = self._parts.clock.now_ms()
        before = dict(self.timetable.evaluated)
        try:
            with self._parts.metrics.tick_seconds.time():
                changed = await asyncio.to_thread(self._tick, now_ms)
        except BaseException:
            self.timetable.evaluated = before
            raise
        if changed:
            crash_point("alerts.ticked")
            self._on_transition()
        return changed

    def _tick(self, now_ms: int) -> int:
        results = [self._evaluate(due) for due in self._due(now_ms)]
        news = [
            found
            for found in self.head.progress()
            if self._saved.get((found.tenant, found.collector)) != found.received_ms
        ]
        if not results:
            return 0

        def store(connection: sa.Connection) -> dict[str, int]:
            save_collectors(connection, news)
            return apply_ticks(connection, results, self._context_at(now_ms))

        changed = self._parts.database.transact(store)
        self._saved.update({(found.tenant, found.collector): found.received_ms for found in news})
        self._count(results, changed)
        if now_ms - self._housekept_ms >= HOUSEKEEPING_MS:
            self._keep_house(now_ms)
        return sum(changed.values())

    def _due(self, now_ms: int) -> list[Due]:
        live_ms = round(self._parts.settings.live_collector_seconds * 1000)
        found: list[Due] = []
        for organization in self.head.organizations():
            mark = watermark_ms(self.head.progress(organization), now_ms, live_ms)
            found += self.timetable.due(organization, mark, now_ms)
        return found

    def _evaluate(self, due: Due) -> GroupResult:
        if due.group.reads_clock:
            header, batch = silence_batch(due.organization, self.head.progress(due.organization), due.at_ms)
            self.head.ingest_batch(header, batch)
        source = self.head.source(due.organization)
        limit = self._parts.settings.max_alerts_per_rule
        return evaluate_group(due.organization, due.group, source, due.at_ms, limit)

    def _count(self, results: Sequence[GroupResult], changed: dict[str, int]) -> None:
        metrics = self._parts.metrics
        for result in results:
            metrics.evaluations.labels(result.group.name).inc()
            failed = [found for found in result.results if found.error is not None]
            metrics.rule_errors.labels(result.group.name).inc(len(failed))
            for found in failed:
                _log.warning(
                    "rule_failed", rule=found.rule.name, organization=result.organization, error=found.error
                )
        for state, count in changed.items():
            metrics.transitions.labels(state).inc(count)
        while self.timetable.missed:
            group, count = self.timetable.missed.popitem()
            metrics.missed.labels(group).inc(count)
        oldest = min(result.at_ms for result in results)
        metrics.evaluated_lag_seconds.set((self._parts.clock.now_ms() - oldest) / 1000)
        metrics.head_series.set(self.head.series)
        metrics.head_bytes.set(self.head.allocated_bytes)
        for reason, count in self.head.refused.items():
            metrics.head_refused.labels(reason.value).set(count)

    def _keep_house(self, now_ms: int) -> None:
        self._housekept_ms = now_ms
        self.head.expire(now_ms)
        database = self._parts.database
        for tenant, collector in database.transact(load_forgotten):
            self.head.forget(tenant, collector)
            self._saved.pop((tenant, collector), None)
        keep_ms = self._parts.settings.keep_history_days * 86_400_000
        database.transact(lambda connection: retention.sweep(connection, now_ms - keep_ms))
        database.transact(lambda connection: retention.measure(connection, self._parts.metrics, now_ms))


class _CatchUp:
    """Whether what the log held at the start has been read.

    A partition whose records are all older than the retention delivers nothing, so it is not waited for once the
    others have come to their ends and a poll has not filled up.
    """

    def __init__(self, ends: Mapping[TopicPartition, int]) -> None:
        self._ends = ends
        self._behind: dict[TopicPartition, bool] = {}

    def has_reached_end(self, records: Sequence[StoredRecord]) -> bool:
        """Note what one poll delivered."""
        for record in records:
            self._behind[record.source] = record.offset + 1 < self._ends.get(record.source, 0)
        return len(records) < MAX_RECORDS and not any(self._behind.values())
