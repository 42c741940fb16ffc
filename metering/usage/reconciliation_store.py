"""Outcomes of reconciliation in the database: written once, another outcome of the same hour is the next row."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from kernel.database import Database
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window
from metering.usage.models import usage_hours, usage_reconciliations
from metering.usage.reconciliation import ClusterHour, Difference, Reconciliation

_KEY = ("organization", "hour_ms", "project", "cluster")


class ReconciliationStore:
    """Every method blocks; call from a worker thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, organization: OrganizationId, window: Window) -> Reconciliation:
        """The newest outcome of each cluster's hour that begins in the window."""

        def read(connection: sa.Connection) -> Reconciliation:
            rows = connection.execute(_newest(organization, window))
            return Reconciliation(tuple(_cluster_hour(row) for row in rows))

        return self._database.read(read)

    def save(self, organization: OrganizationId, found: Reconciliation, checked_ms: int) -> int:
        """Append what differs from the newest outcome of its hour; returns how many rows."""
        if not found.hours:
            return 0
        window = Window(found.hours[0].hour.start_ms, found.hours[-1].hour.end_ms)

        def write(connection: sa.Connection) -> int:
            known = {
                (row.hour_ms, row.project, row.cluster): (row.position, _cluster_hour(row))
                for row in connection.execute(_newest(organization, window))
            }
            rows = []
            for one in found.hours:
                position, before = known.get((one.hour.start_ms, one.project, one.cluster), (0, None))
                if before != one:
                    rows.append(_values(organization, one, position + 1, checked_ms))
            if rows:
                connection.execute(usage_reconciliations.insert(), rows)
            return len(rows)

        return self._database.transact(write)

    def sealed_since(self, moment_ms: int, from_ms: int) -> dict[OrganizationId, Window]:
        """For each organization the span of hours, from `from_ms` on, that were sealed at that moment or later."""
        query = (
            sa.select(
                usage_hours.c.organization,
                sa.func.min(usage_hours.c.hour_ms).label("first"),
                sa.func.max(usage_hours.c.hour_ms).label("last"),
            )
            .where(usage_hours.c.sealed_ms >= moment_ms, usage_hours.c.hour_ms >= from_ms)
            .group_by(usage_hours.c.organization)
        )
        found = self._database.read(lambda connection: connection.execute(query).all())
        return {OrganizationId(row.organization): Window(row.first, row.last + HOUR_MS) for row in found}

    def revisions(self, organization: OrganizationId, window: Window) -> dict[int, int]:
        """The newest revision of each closed hour of the window, by its start."""
        query = (
            sa.select(usage_hours.c.hour_ms, sa.func.max(usage_hours.c.revision).label("revision"))
            .where(
                usage_hours.c.organization == organization,
                usage_hours.c.hour_ms >= window.start_ms,
                usage_hours.c.hour_ms < window.end_ms,
            )
            .group_by(usage_hours.c.hour_ms)
        )
        return self._database.read(lambda one: {row.hour_ms: row.revision for row in one.execute(query)})

    def differing_since(self, moment_ms: int) -> dict[OrganizationId, int]:
        """For each organization with an outcome since then: of these, the hours that still differ."""
        table, later = usage_reconciliations, usage_reconciliations.alias()
        is_newer = sa.and_(later.c.position > table.c.position, *(later.c[name] == table.c[name] for name in _KEY))
        is_finding = table.c.difference.not_in(["", Difference.NOT_PROVISIONED.value])
        differs = is_finding & ~sa.exists().where(is_newer)
        query = sa.select(table.c.organization, sa.func.sum(sa.case((differs, 1), else_=0)).label("hours"))
        grouped = query.where(table.c.checked_ms >= moment_ms).group_by(table.c.organization)
        found = self._database.read(lambda connection: connection.execute(grouped).all())
        return {OrganizationId(row.organization): int(row.hours) for row in found}


def _columns() -> list[sa.Column[Any]]:
    return [usage_reconciliations.c[name] for name in _KEY]


def _newest(organization: OrganizationId, window: Window) -> sa.Select[Any]:
    table = usage_reconciliations
    inside = (
        (table.c.organization == organization)
        & (table.c.hour_ms >= window.start_ms)
        & (table.c.hour_ms < window.end_ms)
    )
    last = (
        sa.select(*_columns(), sa.func.max(table.c.position).label("position"))
        .where(inside)
        .group_by(*_columns())
        .subquery()
    )
    same = [table.c[name] == last.c[name] for name in (*_KEY, "position")]
    return sa.select(table).join(last, sa.and_(*same)).order_by(table.c.hour_ms, table.c.project, table.c.cluster)


def _cluster_hour(row: Any) -> ClusterHour:
    return ClusterHour(
        project=ProjectId(row.project),
        cluster=ClusterId(row.cluster),
        hour=Window(row.hour_ms, row.hour_ms + HOUR_MS),
        revision=row.revision,
        scraped=row.scraped_milli_vcpu_ms,
        missing_ms=row.missing_ms,
        least=row.least_milli_vcpu_ms,
        most=row.most_milli_vcpu_ms,
        difference=Difference(row.difference) if row.difference else None,
    )


def _values(organization: OrganizationId, one: ClusterHour, position: int, checked_ms: int) -> dict[str, Any]:
    return {
        "organization": organization,
        "hour_ms": one.hour.start_ms,
        "project": one.project,
        "cluster": one.cluster,
        "position": position,
        "revision": one.revision,
        "scraped_milli_vcpu_ms": one.scraped,
        "missing_ms": one.missing_ms,
        "least_milli_vcpu_ms": one.least,
        "most_milli_vcpu_ms": one.most,
        "difference": one.difference.value if one.difference else "",
        "checked_ms": checked_ms,
    }
