"""A month of sealed hours: the newest revision of each, the hours at its edges cut to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

import sqlalchemy as sa

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window, whole_hours
from metering.usage.model import UsageMonth
from metering.usage.models import usage_hours, usage_rows
from metering.usage.pieces import Figures, Pieces, cut, parse_pieces
from metering.usage.rows import CanonicalRow, UsageGap, UsageRow, UsageRows


def newest_revisions(organization: OrganizationId, window: Window) -> sa.Select[Any]:
    """Start and newest revision of each hour that begins in `window`."""
    return (
        sa.select(usage_hours.c.hour_ms, sa.func.max(usage_hours.c.revision).label("revision"))
        .where(
            usage_hours.c.organization == organization,
            usage_hours.c.hour_ms >= window.start_ms,
            usage_hours.c.hour_ms < window.end_ms,
        )
        .group_by(usage_hours.c.hour_ms)
    )


def read_month(
    connection: sa.Connection, organization: OrganizationId, window: Window, sealed_by_ms: int | None = None
) -> UsageMonth:
    """The newest revision (of those sealed by a moment of the vendor) of every hour that touches `window`.

    Raises InvalidInput: it is not cut at quarters of hours, or inside an hour of which too little was kept.
    """
    return month_and_revisions(connection, organization, window, sealed_by_ms)[0]


def month_and_revisions(
    connection: sa.Connection, organization: OrganizationId, window: Window, sealed_by_ms: int | None = None
) -> tuple[UsageMonth, int]:
    """The same, and of how many revisions of its hours it is the newest: one more, and it is another month."""
    if window.start_ms % QUARTER_MS or window.end_ms % QUARTER_MS:
        raise InvalidInput.single("usage", "window", str(window), "edges at whole quarters of an hour")
    hours, revisions = _newest_hours(connection, organization, whole_hours(window), sealed_by_ms)
    step = _step_of(hours)
    if window != whole_hours(window):
        step = step.within(window)
    rows = _Reading(organization, window, hours).rows(connection)
    found = UsageMonth(
        organization=organization,
        window=window,
        rows=rows,
        step=step,
        observed_ms=rows.sums.observed_ms,
        missing_ms=rows.sums.missing_ms,
        revision_digest=rows.digest,
        sealed=len(hours) * HOUR_MS == whole_hours(window).length_ms,
    )
    return found, revisions


class _Hour(NamedTuple):
    """The newest revision of an hour."""

    revision: int
    step: str  # JSON, as `sources`
    sources: str


def _newest_hours(
    connection: sa.Connection, organization: OrganizationId, hours: Window, sealed_by_ms: int | None
) -> tuple[dict[int, _Hour], int]:
    """By start, in order of time; and how many revisions they have."""
    columns = usage_hours.c
    query = (
        sa.select(columns.hour_ms, columns.revision, columns.step, columns.sources)
        .where(
            columns.organization == organization,
            columns.hour_ms >= hours.start_ms,
            columns.hour_ms < hours.end_ms,
        )
        .order_by(columns.hour_ms, columns.revision)
    )
    if sealed_by_ms is not None:
        query = query.where(columns.sealed_ms <= sealed_by_ms)
    found = connection.execute(query).all()
    newest = {at_ms: _Hour(*revision) for at_ms, *revision in found}  # of the revisions of an hour the last stays
    return newest, len(found)


def _step_of(hours: Mapping[int, _Hour]) -> StepFunction:
    stored: list[list[tuple[int, int]]] = json.loads(f"[{','.join(hour.step for hour in hours.values())}]")
    return StepFunction.of(
        (at_ms, level)
        for hour_ms, points in zip(hours, stored, strict=True)
        for at_ms, level in _points(points, hour_ms)
    )


def _points(points: list[tuple[int, int]], hour_ms: int) -> list[tuple[int, int]]:
    """An hour's points, zero from its start unless they say otherwise: hours are concatenated."""
    return [(hour_ms, 0), *points] if not points or points[0][0] != hour_ms else points


class _Reading:
    """The rows of an organization's hours, cut to a window.

    A month has thousands, of which drafting wants only what is billed and proved: that is made here for all of
    them, and a row as an object when one is asked for.
    """

    def __init__(self, organization: OrganizationId, window: Window, hours: Mapping[int, _Hour]) -> None:
        self._organization = organization
        self._window = window
        self._revisions = {hour_ms: hour.revision for hour_ms, hour in hours.items()}
        distinct = {text: tuple(json.loads(text)) for text in {hour.sources for hour in hours.values()}}
        self._sources = {hour_ms: distinct[hour.sources] for hour_ms, hour in hours.items()}
        joined = {text: ",".join(sources) for text, sources in distinct.items()}
        self._joined = {hour_ms: joined[hour.sources] for hour_ms, hour in hours.items()}
        whole = whole_hours(window)
        first_and_last = {whole.start_ms, whole.end_ms - HOUR_MS}
        self._edges = {at_ms for at_ms in first_and_last if self._inside(at_ms) != (at_ms, at_ms + HOUR_MS)}

    def rows(self, connection: sa.Connection) -> UsageRows:
        """In order of hour and component; none where the component did not exist in the window."""
        revisions, found, kept = self._revisions, [], []
        for stored in connection.execute(self._query()).all():
            if revisions.get(stored[0]) == stored[1] and (row := self._canonical(stored)):
                found.append(row)
                kept.append(stored)
        return UsageRows(self._organization, len(found), lambda: found, lambda: tuple(self._objects(found, kept)))

    def _query(self) -> sa.Select[Any]:
        columns, hours = usage_rows.c, whole_hours(self._window)
        needs_pieces = sa.or_(columns.missing_ms != 0, columns.hour_ms.in_(self._edges))
        return (
            sa.select(
                columns.hour_ms,
                columns.revision,
                columns.project,
                columns.cluster,
                columns.component,
                columns.milli_vcpu_ms,
                columns.observed_ms,
                columns.missing_ms,
                columns.peak_milli_vcpu,
                sa.case((needs_pieces, columns.pieces)).label("pieces"),
                columns.places,
            )
            .where(
                columns.organization == self._organization,
                columns.hour_ms >= hours.start_ms,
                columns.hour_ms < hours.end_ms,
            )
            .order_by(columns.hour_ms, columns.revision, columns.project, columns.cluster, columns.component)
        )

    def _inside(self, hour_ms: int) -> tuple[int, int]:
        """Start and end of the part of an hour that lies in the window."""
        return max(hour_ms, self._window.start_ms), min(hour_ms + HOUR_MS, self._window.end_ms)

    def _canonical(self, stored: Sequence[Any]) -> CanonicalRow | None:
        """The part of a row in the window; None where the component did not exist in it."""
        at_ms, revision, project, cluster, component, quantity, observed_ms, missing_ms, peak, pieces, _ = stored
        end_ms, sources = at_ms + HOUR_MS, self._joined[at_ms]
        if at_ms in self._edges:
            whole = Figures(quantity, observed_ms, missing_ms, peak)
            part = self._cut(at_ms, whole, parse_pieces(pieces) if pieces else None)
            if not part.observed_ms and not part.missing_ms:
                return None
            at_ms, end_ms = self._inside(at_ms)
            quantity, observed_ms, missing_ms, peak = astuple(part)
        figures = quantity, observed_ms, missing_ms, peak, sources
        return CanonicalRow(project, cluster, component, at_ms, end_ms, revision, *figures)

    def _cut(self, hour_ms: int, whole: Figures, pieces: Pieces | None) -> Figures:
        hour = Window(hour_ms, hour_ms + HOUR_MS)
        part = cut(whole, pieces, hour, Window(*self._inside(hour_ms)))
        if part is None:
            allowed = "a window of whole UTC hours: this hour was sealed before its quarters were kept"
            raise InvalidInput.single("usage", "window", f"{self._window}, inside {hour}", allowed)
        return part

    def _objects(self, found: Iterable[CanonicalRow], kept: Iterable[Any]) -> Iterator[UsageRow]:
        for row, stored in zip(found, kept, strict=True):
            hour = Window(row.start_ms, row.end_ms)
            yield UsageRow(
                organization=self._organization,
                project=ProjectId(row.project),
                cluster=ClusterId(row.cluster),
                component=row.component,
                hour=hour,
                revision=row.revision,
                milli_vcpu_ms=row.milli_vcpu_ms,
                observed_ms=row.observed_ms,
                missing_ms=row.missing_ms,
                peak_milli_vcpu=row.peak_milli_vcpu,
                sources=self._sources[stored.hour_ms],
                gaps=tuple(_within(parse_pieces(stored.pieces).gaps, hour)) if stored.pieces else (),
                places=stored.places or "",
            )


def _within(gaps: Iterable[UsageGap], window: Window) -> Iterator[UsageGap]:
    for gap in gaps:
        part = gap.window.intersection(window)
        if part:
            yield UsageGap(part, gap.since_ms, gap.milli_vcpu)
