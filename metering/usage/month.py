"""A month of sealed hours: the newest revision of each, the hours at its edges cut to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window, whole_hours
from metering.usage.model import UsageGap, UsageMonth, UsageRow, digest_of
from metering.usage.models import usage_hours, usage_rows
from metering.usage.pieces import Figures, cut, parse_pieces


def newest_revisions(
    organization: OrganizationId, window: Window, sealed_by_ms: int | None = None
) -> sa.Select[Any]:
    """Start and newest revision of each hour that begins in `window` (of those sealed by then)."""
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


def read_month(
    connection: sa.Connection, organization: OrganizationId, window: Window, sealed_by_ms: int | None = None
) -> UsageMonth:
    """The newest revision (of those sealed by a moment of the vendor) of every hour that touches `window`.

    Raises InvalidInput: it is not cut at quarters of hours, or inside an hour of which too little was kept.
    """
    if window.start_ms % QUARTER_MS or window.end_ms % QUARTER_MS:
        raise InvalidInput.single("usage", "window", str(window), "edges at whole quarters of an hour")
    newest = newest_revisions(organization, whole_hours(window), sealed_by_ms).subquery()
    hours = connection.execute(
        sa.select(usage_hours)
        .join(newest, (usage_hours.c.hour_ms == newest.c.hour_ms) & (usage_hours.c.revision == newest.c.revision))
        .where(usage_hours.c.organization == organization)
        .order_by(usage_hours.c.hour_ms)
    ).all()
    sources = {hour.hour_ms: tuple(json.loads(hour.sources)) for hour in hours}
    stored = connection.execute(
        sa.select(usage_rows)
        .join(newest, (usage_rows.c.hour_ms == newest.c.hour_ms) & (usage_rows.c.revision == newest.c.revision))
        .where(usage_rows.c.organization == organization)
        .order_by(usage_rows.c.hour_ms, usage_rows.c.project, usage_rows.c.cluster, usage_rows.c.component)
    )
    rows = tuple(found for row in stored if (found := _usage_row(row, sources[row.hour_ms], window)))
    step = StepFunction.of(
        (at_ms, level) for hour in hours for at_ms, level in _points(json.loads(hour.step), hour.hour_ms)
    )
    if window != whole_hours(window):
        step = step.within(window)
    return UsageMonth(
        organization=organization,
        window=window,
        rows=rows,
        step=step,
        observed_ms=sum(row.observed_ms for row in rows),
        missing_ms=sum(row.missing_ms for row in rows),
        revision_digest=digest_of(rows),
        sealed=len(hours) * HOUR_MS == whole_hours(window).length_ms,
    )


def _points(points: list[tuple[int, int]], hour_ms: int) -> list[tuple[int, int]]:
    """An hour's points, zero from its start unless they say otherwise: hours are concatenated."""
    return [(hour_ms, 0), *points] if not points or points[0][0] != hour_ms else points


def figures_of(row: Any) -> Figures:
    """The integers of a stored row."""
    return Figures(row.milli_vcpu_ms, row.observed_ms, row.missing_ms, row.peak_milli_vcpu)


def _usage_row(row: Any, sources: tuple[str, ...], window: Window) -> UsageRow | None:
    """The part of a row in the window; None where the component did not exist in it."""
    hour = Window(row.hour_ms, row.hour_ms + HOUR_MS)
    inside = hour.intersection(window)
    assert inside is not None  # the query asks for hours that touch the window
    pieces = parse_pieces(row.pieces) if row.pieces is not None and (row.missing_ms or inside != hour) else None
    whole = figures_of(row)
    figures = whole if inside == hour else cut(whole, pieces, hour, inside)
    if figures is None:
        allowed = "a window of whole UTC hours: this hour was sealed before its quarters were kept"
        raise InvalidInput.single("usage", "window", f"{window}, inside {hour}", allowed)
    if inside != hour and not figures.observed_ms and not figures.missing_ms:
        return None
    return UsageRow(
        organization=OrganizationId(row.organization),
        project=ProjectId(row.project),
        cluster=ClusterId(row.cluster),
        component=row.component,
        hour=inside,
        revision=row.revision,
        milli_vcpu_ms=figures.milli_vcpu_ms,
        observed_ms=figures.observed_ms,
        missing_ms=figures.missing_ms,
        peak_milli_vcpu=figures.peak_milli_vcpu,
        sources=sources,
        gaps=tuple(_within(pieces.gaps, inside)) if pieces else (),
        places=row.places or "",
    )


def _within(gaps: Iterable[UsageGap], window: Window) -> Iterator[UsageGap]:
    for gap in gaps:
        part = gap.window.intersection(window)
        if part:
            yield UsageGap(part, gap.since_ms, gap.milli_vcpu)
