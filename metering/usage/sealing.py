"""Hours become revisions: all hours of a call compared and written together, in the caller's transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kernel.ids import OrganizationId
from kernel.window import Window
from metering.usage.hours import ComponentHour
from metering.usage.models import usage_checks, usage_hours, usage_rows


@dataclass(frozen=True, slots=True)
class HourToSeal:
    """A computed hour with what it was computed from."""

    organization: OrganizationId
    hour: Window
    components: Sequence[ComponentHour]
    step: Sequence[tuple[int, int]]  # (ms, milli-vCPU): breakpoints of all components' sum inside the hour
    sources: tuple[str, ...]
    files_digest: str
    snapshot_id: int | None
    reason: str  # watermark, deadline or late


def newest_of(organization: OrganizationId, window: Window, sealed_by_ms: int | None = None) -> sa.Select[Any]:
    """The newest revision of each closed hour of the window (of those sealed by a moment of the vendor)."""
    query = (
        sa.select(usage_hours.c.hour_ms, sa.func.max(usage_hours.c.revision).label("revision"))
        .where(
            usage_hours.c.organization == organization,
            usage_hours.c.hour_ms >= window.start_ms,
            usage_hours.c.hour_ms < window.end_ms,
        )
        .group_by(usage_hours.c.hour_ms)
    )
    return query if sealed_by_ms is None else query.where(usage_hours.c.sealed_ms <= sealed_by_ms)


def seal_hours(connection: sa.Connection, hours: Sequence[HourToSeal], sealed_ms: int) -> int:
    """See `UsageStore.seal`: `hours` are of one organization, in order of time. Returns how many were written."""
    if not hours:
        return 0
    organization, span = hours[0].organization, Window(hours[0].hour.start_ms, hours[-1].hour.end_ms)
    revisions = {row.hour_ms: row.revision for row in connection.execute(newest_of(organization, span))}
    stored = _stored_figures(connection, organization, span, revisions)
    written: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    for hour in hours:
        step = json.dumps(hour.step)
        before = revisions.get(hour.hour.start_ms, 0)
        if before and stored[hour.hour.start_ms] == _figures(step, map(_compared, hour.components)):
            continue
        written.append(_hour_values(hour, before + 1, step, sealed_ms))
        rows += _row_values(hour, before + 1)
    _note_checks(connection, hours, {values["hour_ms"] for values in written})
    if written:
        connection.execute(usage_hours.insert(), written)
    if rows:
        _insert_rows(connection, rows)
    return len(written)


def _note_checks(connection: sa.Connection, hours: Sequence[HourToSeal], written: set[int]) -> None:
    """What each hour was computed from. The hour after a written one is looked at again if it is not among them.

    What is open at an hour's end decides what is missing in the next: so it is, even when the process ends here.
    """
    organization = hours[0].organization
    digests = {hour.hour.start_ms: hour.files_digest for hour in hours}
    following = {hour.hour.end_ms for hour in hours if hour.hour.start_ms in written}
    connection.execute(
        sa.delete(usage_checks).where(
            usage_checks.c.organization == organization,
            usage_checks.c.hour_ms.in_(sorted(digests.keys() | following)),
        )
    )
    rows = [{"organization": organization, "hour_ms": at, "files_digest": each} for at, each in digests.items()]
    connection.execute(usage_checks.insert(), rows)


def _hour_values(hour: HourToSeal, revision: int, step: str, sealed_ms: int) -> dict[str, Any]:
    return {
        "organization": hour.organization,
        "hour_ms": hour.hour.start_ms,
        "revision": revision,
        "step": step,
        "observed_ms": sum(component.observed_ms for component in hour.components),
        "missing_ms": sum(component.missing_ms for component in hour.components),
        "sources": json.dumps(hour.sources),
        "snapshot_id": hour.snapshot_id,
        "reason": hour.reason if revision == 1 else "late",
        "sealed_ms": sealed_ms,
    }


def _row_values(hour: HourToSeal, revision: int) -> Iterator[tuple[Any, ...]]:
    """In the order of the table's columns."""
    organization, hour_ms = hour.organization, hour.hour.start_ms
    for component, collector, *figures in hour.components:
        yield (
            organization,
            hour_ms,
            revision,
            component.project,
            component.cluster,
            component.name,
            collector,
            *figures,
        )


def _insert_rows(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """A month has hundreds of thousands: SQLite's driver takes them as they are."""
    if connection.dialect.positional:
        connection.exec_driver_sql(str(usage_rows.insert().compile(dialect=connection.dialect)), list(rows))
    else:
        names = usage_rows.columns.keys()
        connection.execute(usage_rows.insert(), [dict(zip(names, row, strict=True)) for row in rows])


_Figures = tuple[str, list[tuple[Any, ...]]]


def _figures(step: str, rows: Iterable[tuple[Any, ...]]) -> _Figures:
    """What makes one revision differ from the one before: not which files or which collector it came from."""
    return step, sorted(rows)


def _compared(found: ComponentHour) -> tuple[Any, ...]:
    component, _, *figures = found
    return (component.project, component.cluster, component.name, *figures)


def _stored_figures(
    connection: sa.Connection, organization: OrganizationId, span: Window, revisions: Mapping[int, int]
) -> dict[int, _Figures]:
    """By start of the hour, what its newest revision says."""
    if not revisions:
        return {}
    newest = newest_of(organization, span).subquery()

    def of_newest(table: sa.Table) -> sa.Select[Any]:
        is_newest = (table.c.hour_ms == newest.c.hour_ms) & (table.c.revision == newest.c.revision)
        return sa.select(table).join(newest, is_newest).where(table.c.organization == organization)

    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in connection.execute(of_newest(usage_rows)):
        rows[row.hour_ms].append((row.project, row.cluster, row.component, *row[-5:]))
    return {
        hour.hour_ms: _figures(hour.step, rows[hour.hour_ms]) for hour in connection.execute(of_newest(usage_hours))
    }
