"""Hours become revisions: all hours of a call compared and written together, in the caller's transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.models import usage_checks, usage_hours, usage_rows
from metering.usage.month import newest_revisions
from metering.usage.pieces import (
    Before,
    Figures,
    Pieces,
    beginnings_after,
    is_one_level,
    parse_pieces,
    pieces_of,
    render_pieces,
)


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


def seal_hours(connection: sa.Connection, hours: Sequence[HourToSeal], sealed_ms: int) -> int:
    """See `UsageStore.seal`: `hours` are of one organization, in order of time. Returns how many were written."""
    if not hours:
        return 0
    organization, span = hours[0].organization, Window(hours[0].hour.start_ms, hours[-1].hour.end_ms)
    revisions = {row.hour_ms: row.revision for row in connection.execute(newest_revisions(organization, span))}
    stored = _stored_figures(connection, organization, span, revisions)
    written: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    for hour, pieces in zip(hours, pieces_of_hours(connection, hours), strict=True):
        step = json.dumps(hour.step)
        before = revisions.get(hour.hour.start_ms, 0)
        if before and _is_same(stored[hour.hour.start_ms], _figures(step, _compared(hour, pieces))):
            continue
        written.append(_hour_values(hour, before + 1, step, sealed_ms))
        rows += _row_values(hour, pieces, before + 1)
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


def _row_values(hour: HourToSeal, pieces: Mapping[Component, str], revision: int) -> Iterator[tuple[Any, ...]]:
    """In the order of the table's columns."""
    organization, hour_ms = hour.organization, hour.hour.start_ms
    for component, collector, *figures, _, places in hour.components:
        yield (
            organization,
            hour_ms,
            revision,
            component.project,
            component.cluster,
            component.name,
            collector,
            *figures,
            pieces.get(component),
            places,
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


def _compared(hour: HourToSeal, pieces: Mapping[Component, str]) -> Iterator[tuple[Any, ...]]:
    for component, _, *figures, _, _ in hour.components:
        yield (component.project, component.cluster, component.name, *figures, pieces.get(component))


def _is_same(stored: _Figures, now: _Figures) -> bool:
    """Hours that were sealed before `pieces` were kept have none, which is no difference."""
    if stored == now:
        return True
    is_alike = stored[0] == now[0] and len(stored[1]) == len(now[1])
    pairs = zip(stored[1], now[1], strict=False)
    return is_alike and all(old[:-1] == new[:-1] and old[-1] in (None, new[-1]) for old, new in pairs)


def _stored_figures(
    connection: sa.Connection, organization: OrganizationId, span: Window, revisions: Mapping[int, int]
) -> dict[int, _Figures]:
    """By start of the hour, what its newest revision says."""
    if not revisions:
        return {}
    newest = newest_revisions(organization, span).subquery()

    def of_newest(table: sa.Table) -> sa.Select[Any]:
        is_newest = (table.c.hour_ms == newest.c.hour_ms) & (table.c.revision == newest.c.revision)
        return sa.select(table).join(newest, is_newest).where(table.c.organization == organization)

    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for row in connection.execute(of_newest(usage_rows)):
        rows[row.hour_ms].append((row.project, row.cluster, row.component, *row[-7:-1]))
    return {
        hour.hour_ms: _figures(hour.step, rows[hour.hour_ms]) for hour in connection.execute(of_newest(usage_hours))
    }


def pieces_of_hours(connection: sa.Connection, hours: Sequence[HourToSeal]) -> Iterator[dict[Component, str]]:
    """What each hour keeps of its components that were not one level throughout, as text."""
    before: HourToSeal | None = None
    known: dict[Component, Pieces] = {}
    for hour in hours:
        start_ms = hour.hour.start_ms
        shapes = [(found.component, found.shape) for found in hour.components if found.shape]
        beginnings: dict[Component, Before] = {}
        if any(shape.gaps and shape.gaps[0][0] == start_ms for _, shape in shapes):
            if before is not None and before.hour.end_ms == start_ms:
                beginnings = beginnings_after(before.hour, before.components, known)
            else:
                beginnings = _stored_beginnings(connection, hour.organization, start_ms)
        known = {name: pieces_of(shape, hour.hour, beginnings.get(name)) for name, shape in shapes}
        before = hour
        yield {name: render_pieces(pieces) for name, pieces in known.items()}


def _stored_beginnings(
    connection: sa.Connection, organization: OrganizationId, start_ms: int
) -> dict[Component, Before]:
    """How an hour begins for the components of the stored hour before it."""
    earlier = Window(start_ms - HOUR_MS, start_ms)
    newest = newest_revisions(organization, earlier).subquery()
    query = (
        sa.select(usage_rows)
        .join(newest, (usage_rows.c.hour_ms == newest.c.hour_ms) & (usage_rows.c.revision == newest.c.revision))
        .where(usage_rows.c.organization == organization)
    )
    found = {}
    for row in connection.execute(query):
        component = Component(ProjectId(row.project), ClusterId(row.cluster), row.component)
        if row.pieces is not None:
            found[component] = parse_pieces(row.pieces).before(earlier)
        elif is_one_level(Figures(row.milli_vcpu_ms, row.observed_ms, row.missing_ms, row.peak_milli_vcpu)):
            found[component] = Before(row.peak_milli_vcpu, start_ms)
    return found
