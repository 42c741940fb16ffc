"""The job that compares closed hours with what the provisioner declared, and tells alert rules how many differ."""

from __future__ import annotations

import asyncio
import json
from fractions import Fraction
from hashlib import sha256

from prometheus_client import CollectorRegistry, Gauge

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Retry
from kernel.ids import VENDOR_PROJECT, CollectorId, OrganizationId, Tenant
from kernel.log import LogWriter, Record
from kernel.logs import logger
from kernel.quantity import VCPU_MINUTE_IN_MILLI_VCPU_MS
from kernel.window import DAY_MS, HOUR_MS, Window, hour_of
from metering.record import BatchHeader, Lane, encode_record, make_batch
from metering.usage.reconciliation import DeclaredUsage, Reconciliation, Tolerance, reconcile
from metering.usage.reconciliation_store import ReconciliationStore
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore

COLLECTOR = CollectorId("vendor-usage")
METRIC = "byoc_usage_unreconciled_hours"
_LATE_COMMIT_MS = 60_000  # an hour's `sealed_ms` is taken before its transaction commits
_log = logger("usage")


class Reconciler:
    """Safe to run twice: an outcome is written once. Methods but `run` and `publish` block."""

    def __init__(self, database: Database, declared: DeclaredUsage, settings: UsageSettings, clock: Clock) -> None:
        self._usage = UsageStore(database)
        self._outcomes = ReconciliationStore(database)
        self._declared = declared
        self._settings = settings
        self._clock = clock
        self._tolerance = tolerance_of(settings)
        self._looked_ms = 0

    def reconcile(self, organization: OrganizationId, window: Window) -> Reconciliation:
        """Compare every closed hour that the window touches, and keep what is new. A month or two at most."""
        start_ms = window.start_ms - window.start_ms % HOUR_MS
        window = Window(start_ms, hour_of(window.end_ms - 1).end_ms)
        revisions = self._outcomes.revisions(organization, window)
        usage = self._usage.month(organization, window)
        prefix = f"{organization}/"
        apart = [
            name.removeprefix(prefix)
            for name in self._settings.reconcile_not_provisioned
            if name.startswith(prefix)
        ]
        declared = self._declared.declared(organization)
        found = reconcile(usage.rows, revisions, declared, self._tolerance, apart)
        self._outcomes.save(organization, found, self._clock.now_ms())
        return found

    def reconcile_new(self) -> int:
        """Compare what was sealed since the last call, at the first all `revision_days`; returns organizations."""
        now_ms = self._clock.now_ms()
        from_ms = hour_of(max(0, now_ms - self._settings.revision_days * DAY_MS)).start_ms
        due = self._outcomes.sealed_since(self._looked_ms - _LATE_COMMIT_MS, from_ms)
        for organization, window in sorted(due.items()):
            found = self.reconcile(organization, window)
            if found.differing:
                _log.warning("usage_differs", organization=organization, hours=found.differing)
        self._looked_ms = now_ms
        return len(due)

    async def run(self, writer: LogWriter, registry: CollectorRegistry) -> None:
        """Until cancelled. A passing fault of the database or the log skips a round, and is logged."""
        differing = Gauge(METRIC, "Cluster-hours that differ from what the provisioner declared", registry=registry)
        while True:
            try:
                await asyncio.to_thread(self.reconcile_new)
                differing.set(await self.publish(writer))
            except Retry as error:
                _log.warning("reconciliation_skipped", error=str(error))
            await self._clock.sleep(self._settings.check_interval_seconds)

    async def publish(self, writer: LogWriter) -> int:
        """Append each organization's count to the live topic, for the alert rules; returns their sum."""
        now_ms = self._clock.now_ms()
        since_ms = now_ms - round(self._settings.reconcile_alert_hours * HOUR_MS)
        counts = await asyncio.to_thread(self._outcomes.differing_since, since_ms)
        if counts:
            records = [gauge_record(owner, hours, now_ms) for owner, hours in sorted(counts.items())]
            await writer.append(Lane.BILLING.topic, records)
        return sum(counts.values())


def tolerance_of(settings: UsageSettings) -> Tolerance:
    """The settings in the units of the comparison."""
    return Tolerance(
        absolute=int(Fraction(str(settings.reconcile_vcpu_minutes)) * VCPU_MINUTE_IN_MILLI_VCPU_MS),
        relative=Fraction(str(settings.reconcile_ratio)),
        edge_ms=round(settings.reconcile_edge_seconds * 1000),
    )


def gauge_record(organization: OrganizationId, hours: int, now_ms: int) -> Record:
    """The log record of one organization's count at `now_ms`, under the vendor's own identity."""
    labels = (("__name__", METRIC), ("organization", organization), ("project", VENDOR_PROJECT))
    header = BatchHeader(
        tenant=Tenant(organization, VENDOR_PROJECT),
        collector=COLLECTOR,
        lane=Lane.BILLING,
        received_ms=now_ms,
        sha256=sha256(json.dumps([*labels, now_ms, hours]).encode()).hexdigest(),
    )
    return encode_record(header, make_batch([(labels, now_ms, float(hours))]))
