"""What is known of collectors: stored, so that one which went silent before a restart is not forgotten by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa

from alerts import models
from alerts.rule import SILENCE_METRIC
from kernel.database import upsert
from kernel.ids import VENDOR_PROJECT, CollectorId, OrganizationId, ProjectId, Tenant
from metering.promql.api import CollectorProgress
from metering.record import BatchHeader, Lane, SampleBatch, make_batch


def load_collectors(connection: sa.Connection) -> list[CollectorProgress]:
    """Every collector that was not forgotten."""
    table = models.collectors
    rows = connection.execute(sa.select(table).where(table.c.forgotten_ms.is_(None)))
    return [
        CollectorProgress(_tenant(row), CollectorId(row.collector), row.received_ms, row.complete_through_ms)
        for row in rows
    ]


def save_collectors(connection: sa.Connection, progress: Sequence[CollectorProgress]) -> None:
    """Store how far collectors have come; one that sends again is no longer forgotten."""
    rows = [
        {
            "organization": found.tenant.organization,
            "project": found.tenant.project,
            "collector": found.collector,
            "received_ms": found.received_ms,
            "complete_through_ms": found.complete_through_ms,
            "forgotten_ms": None,
        }
        for found in progress
    ]
    upsert(connection, models.collectors, rows)


def forget_collector(connection: sa.Connection, tenant: Tenant, collector: CollectorId, now_ms: int) -> bool:
    """Stop watching a collector that was decommissioned, until it sends again; False when it is not known."""
    table = models.collectors
    result = connection.execute(
        sa.update(table)
        .where(
            table.c.organization == tenant.organization,
            table.c.project == tenant.project,
            table.c.collector == collector,
        )
        .values(forgotten_ms=now_ms)
    )
    return result.rowcount == 1


def load_forgotten(connection: sa.Connection) -> Iterator[tuple[Tenant, CollectorId]]:
    """The collectors that were forgotten and have not sent since."""
    table = models.collectors
    rows = connection.execute(sa.select(table).where(table.c.forgotten_ms > table.c.received_ms)).all()
    return iter([(_tenant(row), CollectorId(row.collector)) for row in rows])


def _tenant(row: sa.Row[tuple[object, ...]]) -> Tenant:
    return Tenant(OrganizationId(row.organization), ProjectId(row.project))


def silence_batch(
    organization: OrganizationId, progress: Iterable[CollectorProgress], at_ms: int
) -> tuple[BatchHeader, SampleBatch]:
    """One sample for each collector: seconds since the gateway last received anything from it."""
    header = BatchHeader(
        tenant=Tenant(organization, VENDOR_PROJECT),
        collector=CollectorId("alerts-clock"),
        lane=Lane.BILLING,
        received_ms=at_ms,
        sha256="",
    )
    rows = [
        (
            (
                ("__name__", SILENCE_METRIC),
                ("collector", str(found.collector)),
                ("organization", str(organization)),
                ("project", str(found.tenant.project)),
            ),
            at_ms,
            max(0, at_ms - found.received_ms) / 1000,
        )
        for found in progress
    ]
    return header, make_batch(rows)
