"""A meter's usage of a window, read from its sealed hours."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kernel.errors import InvalidInput, NotFound
from kernel.window import DAY_MS, QUARTER_MS, Window, whole_hours
from metering.meters.catalogue import Catalogue, Meter
from metering.meters.hours import FORGOTTEN_MS
from metering.meters.models import meter_catalogues, meter_hours, meter_rows
from metering.meters.parts import MeterRequest, SealedRow, reach_of, usage_of
from metering.usage.model import MeterUsage


def read_meter(connection: sa.Connection, request: MeterRequest, sealed_by_ms: int | None = None) -> MeterUsage:
    """The newest revision of every hour that touches the window (of those sealed by a moment of the vendor).

    Raises NotFound, InvalidInput.
    """
    window = request.window
    if window.start_ms % QUARTER_MS or window.end_ms % QUARTER_MS:
        raise InvalidInput.single("usage", "window", str(window), "edges at whole quarters of an hour")
    told = (meter_hours.c.hour_ms, meter_hours.c.catalogue, meter_hours.c.sources)
    closed = connection.execute(_of_newest(meter_hours, request, sealed_by_ms).with_only_columns(*told)).all()
    meter, catalogue = _definition(connection, request, {hour.catalogue for hour in closed})
    reach = replace(request, window=reach_of(meter, request))
    hours = connection.execute(_of_newest(meter_hours, reach, sealed_by_ms).with_only_columns(*told)).all()
    sources = {hour.hour_ms: tuple(json.loads(hour.sources)) for hour in hours}
    rows = _of_newest(meter_rows, reach, sealed_by_ms).order_by(meter_rows.c.hour_ms, meter_rows.c.number)
    sealed = (
        SealedRow(
            *(row.hour_ms, row.revision, row.number, row.project, row.cluster, row.dimensions, row.figures),
            sources[row.hour_ms],
            row.places or "",
        )
        for row in connection.execute(rows)
    )
    return usage_of(meter, catalogue, request, sealed, len(closed))


def _of_newest(table: sa.Table, request: MeterRequest, sealed_by_ms: int | None) -> sa.Select[Any]:
    newest = _newest(request, sealed_by_ms).subquery()
    same = (table.c.hour_ms == newest.c.hour_ms) & (table.c.revision == newest.c.revision)
    return sa.select(table).join(newest, same).where(*_mine(table, request))


def _definition(connection: sa.Connection, request: MeterRequest, used: set[str]) -> tuple[Meter, str]:
    """The meter as the newest catalogue of these hours has it; of no hours, the newest that has it at all."""
    query = sa.select(meter_catalogues).order_by(meter_catalogues.c.added_ms.desc(), meter_catalogues.c.name.desc())
    found: list[tuple[Meter, str]] = []
    for row in connection.execute(query):
        catalogue = Catalogue.model_validate_json(row.content)
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


def read_definitions(
    connection: sa.Connection, request: MeterRequest, sealed_by_ms: int
) -> tuple[tuple[int, str], ...]:
    """From which hour on which definition of the meter made the rows, where it is not one throughout.

    From so long before the window as its first hour remembers.
    """
    window = Window(request.window.start_ms - FORGOTTEN_MS - DAY_MS, request.window.end_ms)
    told = (meter_hours.c.hour_ms, meter_hours.c.catalogue)
    query = _of_newest(meter_hours, replace(request, window=window), sealed_by_ms).with_only_columns(*told)
    hours = connection.execute(query.order_by(meter_hours.c.hour_ms)).all()
    named = {hour.catalogue for hour in hours}
    stored = connection.execute(sa.select(meter_catalogues).where(meter_catalogues.c.name.in_(sorted(named))))
    meant = {
        row.name: meter.model_dump_json()
        for row in stored
        for meter in Catalogue.model_validate_json(row.content).meters
        if meter.meter == request.meter
    }
    found: list[tuple[int, str]] = []
    for hour in hours:
        if not found or found[-1][1] != meant[hour.catalogue]:
            found.append((hour.hour_ms, meant[hour.catalogue]))
    return tuple(found) if len(found) > 1 else ()


def sealing_moments(request: MeterRequest, until_ms: int) -> sa.Select[Any]:
    """When hours of the window were sealed up to a moment, the last first."""
    return (
        sa.select(meter_hours.c.sealed_ms)
        .distinct()
        .where(*_mine(meter_hours, request), meter_hours.c.sealed_ms <= until_ms)
        .order_by(meter_hours.c.sealed_ms.desc())
    )


def _newest(request: MeterRequest, sealed_by_ms: int | None) -> sa.Select[Any]:
    query = (
        sa.select(meter_hours.c.hour_ms, sa.func.max(meter_hours.c.revision).label("revision"))
        .where(*_mine(meter_hours, request))
        .group_by(meter_hours.c.hour_ms)
    )
    return query if sealed_by_ms is None else query.where(meter_hours.c.sealed_ms <= sealed_by_ms)


def _mine(table: sa.Table, request: MeterRequest) -> tuple[Any, ...]:
    window = whole_hours(request.window)
    return (
        table.c.organization == request.organization,
        table.c.meter == request.meter,
        table.c.hour_ms >= window.start_ms,
        table.c.hour_ms < window.end_ms,
    )
