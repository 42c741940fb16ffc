"""A meter's usage of a window, read from its sealed hours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from kernel.errors import InvalidInput, NotFound
from kernel.window import DAY_MS, QUARTER_MS, Window, whole_hours
from metering.meters.catalogue import Catalogue, Meter
from metering.meters.hours import FORGOTTEN_MS
from metering.meters.models import meter_catalogues, meter_hours, meter_rows
from metering.meters.parts import reach_of, usage_of
from metering.meters.sealed import SealedRow
from metering.usage.model import MeterRequest, MeterUsage


def read_meter(connection: sa.Connection, request: MeterRequest, sealed_by_ms: int | None = None) -> MeterUsage:
    """The newest revision of every hour that touches the window (of those sealed by a moment of the vendor).

    Raises NotFound, InvalidInput.
    """
    window = request.window
    if window.start_ms % QUARTER_MS or window.end_ms % QUARTER_MS:
        raise InvalidInput.single("usage", "window", str(window), "edges at whole quarters of an hour")
    return meter_and_revisions(connection, request, sealed_by_ms)[0]


def meter_and_revisions(
    connection: sa.Connection, request: MeterRequest, sealed_by_ms: int | None = None
) -> tuple[MeterUsage, Window, int]:
    """The same, the window whose hours were read, and how many revisions they have: one more, and it is another."""
    hours, revisions = _newest_hours(connection, request, sealed_by_ms)
    meter, catalogue = _definition(connection, request, {hour.catalogue for hour in hours.values()})
    reach, within = replace(request, window=reach_of(meter, request)), hours
    if reach != request:
        within, revisions = _newest_hours(connection, reach, sealed_by_ms)
    rows = _newest_rows(connection, reach, within)
    return usage_of(meter, catalogue, request, rows, len(hours)), whole_hours(reach.window), revisions


class _Hour(NamedTuple):
    """The newest revision of an hour; `sources` are JSON."""

    revision: int
    catalogue: str
    sources: str


def _newest_hours(
    connection: sa.Connection, request: MeterRequest, sealed_by_ms: int | None
) -> tuple[dict[int, _Hour], int]:
    """By start, in order of time; and how many revisions they have."""
    columns = meter_hours.c
    query = (
        sa.select(columns.hour_ms, columns.revision, columns.catalogue, columns.sources)
        .where(*_mine(meter_hours, request))
        .order_by(columns.hour_ms, columns.revision)
    )
    if sealed_by_ms is not None:
        query = query.where(columns.sealed_ms <= sealed_by_ms)
    found = connection.execute(query).all()
    newest = {at_ms: _Hour(*revision) for at_ms, *revision in found}  # of the revisions of an hour the last stays
    return newest, len(found)


def _newest_rows(
    connection: sa.Connection, request: MeterRequest, hours: Mapping[int, _Hour]
) -> Iterator[SealedRow]:
    """The rows of those hours, in order of hour and number."""
    columns = meter_rows.c
    stored = (
        *(columns.hour_ms, columns.revision, columns.number),
        *(columns.project, columns.cluster, columns.dimensions, columns.figures, columns.places),
    )
    query = sa.select(*stored).where(*_mine(meter_rows, request))
    distinct = {text: tuple(json.loads(text)) for text in {hour.sources for hour in hours.values()}}
    revisions = {at_ms: (hour.revision, distinct[hour.sources]) for at_ms, hour in hours.items()}
    for row in connection.execute(query.order_by(*stored[:3])).all():
        hour_ms, revision, number, project, cluster, dimensions, figures, places = row
        newest, sources = revisions.get(hour_ms, (None, ()))
        if revision == newest:
            of_row = number, project, cluster, dimensions, figures, sources, places or ""
            yield SealedRow(hour_ms, revision, *of_row)


def _definition(connection: sa.Connection, request: MeterRequest, used: set[str]) -> tuple[Meter, str]:
    """The meter as the newest catalogue of these hours has it; of no hours, the newest that has it at all."""
    query = sa.select(meter_catalogues).order_by(meter_catalogues.c.added_ms.desc(), meter_catalogues.c.name.desc())
    found: list[tuple[Meter, str]] = []
    for row in connection.execute(query):
        catalogue = _catalogue(row.content)
        meter = next((each for each in catalogue.meters if each.meter == request.meter), None)
        if meter is not None and (not used or row.name in used):
            found.append((meter, row.name))
    if not found:
        what = f"{request.organization}: there is no meter {request.meter!r}"
        raise NotFound(f"{what} in the catalogues that hours were closed with; see `byoc meters list`")
    meter, name = found[0]
    for other, of in found[1:] if used else ():
        if (other.kind, other.divisor, other.unit) != (meter.kind, meter.divisor, meter.unit):
            allowed = f"hours of one kind and unit: close them again with catalogue {name}"
            raise InvalidInput.single("usage", f"meter {meter.meter}", f"other hours by catalogue {of}", allowed)
    return meter, name


@lru_cache(maxsize=64)  # the same few, for every meter of every organization
def _catalogue(content: str) -> Catalogue:
    return Catalogue.model_validate_json(content)


def read_definitions(
    connection: sa.Connection, request: MeterRequest, sealed_by_ms: int
) -> tuple[tuple[int, str], ...]:
    """From which hour on which definition of the meter made the rows, where it is not one throughout.

    From so long before the window as its first hour remembers.
    """
    window = Window(request.window.start_ms - FORGOTTEN_MS - DAY_MS, request.window.end_ms)
    hours, _ = _newest_hours(connection, replace(request, window=window), sealed_by_ms)
    named = {hour.catalogue for hour in hours.values()}
    stored = connection.execute(sa.select(meter_catalogues).where(meter_catalogues.c.name.in_(sorted(named))))
    meant = {
        row.name: meter.model_dump_json()
        for row in stored
        for meter in _catalogue(row.content).meters
        if meter.meter == request.meter
    }
    found: list[tuple[int, str]] = []
    for hour_ms, hour in hours.items():
        if not found or found[-1][1] != meant[hour.catalogue]:
            found.append((hour_ms, meant[hour.catalogue]))
    return tuple(found) if len(found) > 1 else ()


def sealing_moments(request: MeterRequest, until_ms: int) -> sa.Select[Any]:
    """When hours of the window were sealed up to a moment, the last first."""
    return (
        sa.select(meter_hours.c.sealed_ms)
        .distinct()
        .where(*_mine(meter_hours, request), meter_hours.c.sealed_ms <= until_ms)
        .order_by(meter_hours.c.sealed_ms.desc())
    )


def _mine(table: sa.Table, request: MeterRequest) -> tuple[Any, ...]:
    window = whole_hours(request.window)
    return (
        table.c.organization == request.organization,
        table.c.meter == request.meter,
        table.c.hour_ms >= window.start_ms,
        table.c.hour_ms < window.end_ms,
    )
