"""A meter's usage of a window from sealed rows: by group, exact, in the meter's unit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from kernel.errors import InvalidInput, NotFound
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window, whole_hours
from metering.meters.arithmetic import SLOT_MS, nearest_rank, slot_integrals
from metering.meters.catalogue import Catalogue, Denominator, Kind, Meter
from metering.meters.filling import added_by_quarter
from metering.meters.hours import Piece
from metering.meters.models import meter_catalogues, meter_hours, meter_rows
from metering.usage.model import NOT_BILLED, GapRule, MeterPart, MeterRow, MeterUsage


@dataclass(frozen=True, slots=True)
class MeterRequest:
    """What is asked for. `group_by`: cluster, project or None; `gaps`: what missing time of a gauge counts as."""

    organization: OrganizationId
    meter: str
    window: Window
    group_by: str | None
    gaps: GapRule = NOT_BILLED


@dataclass(frozen=True, slots=True)
class _Stored:
    """A row of an hour, and the quarters of it that lie in the window."""

    row: MeterRow
    quarters: Sequence[tuple[int, int]]  # start ms, quantity
    points: Sequence[tuple[int, int | None]]
    values: frozenset[str]


def read_meter(connection: sa.Connection, request: MeterRequest) -> MeterUsage:
    """The newest revision of every hour that touches the window. Raises NotFound, InvalidInput."""
    window = request.window
    if window.start_ms % QUARTER_MS or window.end_ms % QUARTER_MS:
        raise InvalidInput.single("usage", "window", str(window), "edges at whole quarters of an hour")
    newest = _newest(request).subquery()
    hours = connection.execute(
        sa.select(meter_hours.c.hour_ms, meter_hours.c.catalogue, meter_hours.c.sources)
        .join(newest, _is_newest(meter_hours, newest))
        .where(*_mine(meter_hours, request))
    ).all()
    meter, catalogue = _definition(connection, request, {hour.catalogue for hour in hours})
    sources = {hour.hour_ms: tuple(json.loads(hour.sources)) for hour in hours}
    query = (
        sa.select(meter_rows)
        .join(newest, _is_newest(meter_rows, newest))
        .where(*_mine(meter_rows, request))
        .order_by(meter_rows.c.hour_ms, meter_rows.c.number)
    )
    added = _added(connection, request, meter)
    stored = [_stored(row, meter, window, sources[row.hour_ms], added) for row in connection.execute(query)]
    rows = tuple(each.row for each in stored)
    return MeterUsage(
        organization=request.organization,
        meter=meter.meter,
        catalogue=catalogue,
        unit=meter.unit,
        window=window,
        parts=tuple(_parts(meter, stored, request)),
        rows=rows,
        observed_ms=sum(row.observed_ms for row in rows),
        missing_ms=sum(row.missing_ms for row in rows),
        estimated_ms=sum(row.estimated_ms for row in rows),
        revision_digest=_digest(request, catalogue, rows),
        sealed=len(hours) * HOUR_MS == whole_hours(window).length_ms,
    )


def _parts(meter: Meter, stored: Sequence[_Stored], request: MeterRequest) -> Iterable[MeterPart]:
    groups: dict[str, list[_Stored]] = defaultdict(list)
    for each in stored:
        group = {"cluster": each.row.cluster, "project": each.row.project}.get(request.group_by or "", "")
        groups[group].append(each)
    for group, rows in sorted(groups.items()):
        hourly = _hourly(meter, rows, request.window)
        yield MeterPart(group, meter.in_units(_quantity(meter, rows, request.window)), hourly)


def _hourly(meter: Meter, rows: Sequence[_Stored], window: Window) -> tuple[Fraction, ...]:
    """Hours of the window: they begin where it begins."""
    if not meter.kind.adds_up:
        return ()
    sums = [0] * -(-window.length_ms // HOUR_MS)
    for each in rows:
        for at_ms, quantity in each.quarters:
            sums[(at_ms - window.start_ms) // HOUR_MS] += quantity
    return tuple(meter.in_units(each) for each in sums)


def _quantity(meter: Meter, rows: Sequence[_Stored], window: Window) -> Fraction | int:
    if meter.kind.adds_up:
        return sum(quantity for each in rows for _, quantity in each.quarters)
    if meter.kind is Kind.UNIQUE_COUNT:
        return len(frozenset[str]().union(*(each.values for each in rows)))
    step, seen = _summed(rows, window)
    if meter.kind is Kind.PEAK:
        return step.maximum(window)
    if meter.kind is Kind.LATEST:
        ends = [piece.end_ms for piece, count in seen.pieces(window) if count]
        return step.at(ends[-1] - 1) if ends else 0
    means = slot_integrals(step, window)
    if meter.denominator is Denominator.OBSERVED:
        observed = slot_integrals(seen, window)
        means = [mean for mean, count in zip(means, observed, strict=True) if count]
    return Fraction(nearest_rank(means, meter.percentile or 100), SLOT_MS)


def _summed(rows: Sequence[_Stored], window: Window) -> tuple[StepFunction, StepFunction]:
    """The sum of the rows' levels inside the window, and of how many of them something was observed."""
    by_row: dict[object, list[_Stored]] = defaultdict(list)
    for each in rows:
        by_row[each.row.project, each.row.cluster, each.row.dimensions].append(each)
    steps, seen = [], []
    for listed in by_row.values():
        levels: dict[int, int | None] = {}
        for each in listed:
            start_ms = each.row.hour.start_ms - each.row.hour.start_ms % HOUR_MS
            levels.setdefault(start_ms + HOUR_MS, None)  # an hour says nothing of the one after it
            levels.update({start_ms: None} | dict(each.points))
        steps.append(StepFunction.of((at, level or 0) for at, level in levels.items()))
        seen.append(StepFunction.of((at, int(level is not None)) for at, level in levels.items()))
    return StepFunction.sum_of(steps).within(window), StepFunction.sum_of(seen).within(window)


_Added = Mapping[tuple[str, str, str], Mapping[int, int]]  # by project, cluster and dimensions; by quarter


def _added(connection: sa.Connection, request: MeterRequest, meter: Meter) -> _Added:
    """What the gap policy adds, to integrals of gauges alone: a counter counts what it grew by after the gap."""
    if request.gaps.policy == "not-billed" or meter.kind is not Kind.GAUGE_INTEGRAL:
        return {}
    window = request.window
    reach = replace(request, window=Window(window.start_ms - request.gaps.most_ms, window.end_ms))
    newest = _newest(reach).subquery()
    query = sa.select(meter_rows).join(newest, _is_newest(meter_rows, newest)).where(*_mine(meter_rows, reach))
    quarters: dict[tuple[str, str, str], dict[int, Piece]] = defaultdict(dict)
    for row in connection.execute(query):
        key = row.project, row.cluster, row.dimensions
        for number, figures in enumerate(json.loads(row.figures)["quarters"]):
            quarters[key][row.hour_ms + number * QUARTER_MS] = Piece(*figures)
    return {key: added_by_quarter(found, window, request.gaps) for key, found in quarters.items()}


def _stored(row: Any, meter: Meter, window: Window, sources: tuple[str, ...], of_gaps: _Added) -> _Stored:
    figures = json.loads(row.figures)
    hour = Window(row.hour_ms, row.hour_ms + HOUR_MS)
    inside = hour.intersection(window)
    assert inside is not None  # the query asks for hours that touch the window
    first, end = ((at - row.hour_ms) // QUARTER_MS for at in (inside.start_ms, inside.end_ms))
    starts = range(inside.start_ms, inside.end_ms, QUARTER_MS)
    added = of_gaps.get((row.project, row.cluster, row.dimensions), {})
    quarters = figures["quarters"][first:end]
    counted = [(at, each[0] + added.get(at, 0)) for at, each in zip(starts, quarters, strict=True)]
    bits = (1 << end) - (1 << first)
    values = frozenset(value for value, seen in figures.get("values", {}).items() if seen & bits)
    points = [(at, level) for at, level in figures.get("points", ())]
    found = MeterRow(
        project=ProjectId(row.project),
        cluster=ClusterId(row.cluster),
        dimensions=tuple((name, value) for name, value in json.loads(row.dimensions)),
        hour=inside,
        revision=row.revision,
        quantity=_of_hour(meter, counted, points, values, inside),
        observed_ms=sum(each[2] for each in quarters),
        missing_ms=sum(each[3] for each in quarters),
        estimated_ms=sum(each[3] for at, each in zip(starts, quarters, strict=True) if at in added),
        sources=sources,
    )
    return _Stored(found, counted, points, values)


def _of_hour(
    meter: Meter,
    quarters: Sequence[tuple[int, int]],
    points: Sequence[tuple[int, int | None]],
    values: frozenset[str],
    inside: Window,
) -> int:
    """The row's integer: the sum, the count, the peak, for latest the last level, for a percentile the integral."""
    if meter.kind.adds_up:
        return sum(quantity for _, quantity in quarters)
    if meter.kind is Kind.UNIQUE_COUNT:
        return len(values)
    step = StepFunction.of((at, level or 0) for at, level in points).within(inside)
    if meter.kind is Kind.PEAK:
        return step.maximum(inside)
    if meter.kind is Kind.PERCENTILE:
        return step.integral(inside)
    known = [level for at, level in points if level is not None and at < inside.end_ms]
    return known[-1] if known else 0


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


def _newest(request: MeterRequest) -> sa.Select[Any]:
    return (
        sa.select(meter_hours.c.hour_ms, sa.func.max(meter_hours.c.revision).label("revision"))
        .where(*_mine(meter_hours, request))
        .group_by(meter_hours.c.hour_ms)
    )


def _mine(table: sa.Table, request: MeterRequest) -> tuple[Any, ...]:
    window = whole_hours(request.window)
    return (
        table.c.organization == request.organization,
        table.c.meter == request.meter,
        table.c.hour_ms >= window.start_ms,
        table.c.hour_ms < window.end_ms,
    )


def _is_newest(table: sa.Table, newest: Any) -> Any:
    return (table.c.hour_ms == newest.c.hour_ms) & (table.c.revision == newest.c.revision)


def _digest(request: MeterRequest, catalogue: str, rows: Iterable[MeterRow]) -> str:
    """Of the rows' canonical lines, in canonical order."""
    digest = sha256(f"{request.organization}\t{request.meter}\t{catalogue}\n".encode())
    for line in sorted(json.dumps(_canonical(row), separators=(",", ":")) for row in rows):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _canonical(row: MeterRow) -> Mapping[str, Any]:
    return {
        "project": row.project,
        "cluster": row.cluster,
        "dimensions": row.dimensions,
        "hour": [row.hour.start_ms, row.hour.end_ms],
        "revision": row.revision,
        "quantity": str(row.quantity),
        "observed_ms": row.observed_ms,
        "missing_ms": row.missing_ms,
        "estimated_ms": row.estimated_ms,
        "sources": row.sources,
    }
