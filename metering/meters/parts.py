"""A meter's usage of a window from the rows of its sealed hours. Pure: whoever has the rows gets the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import Any, NamedTuple

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window, whole_hours
from metering.meters.arithmetic import SLOT_MS, nearest_rank, slot_integrals
from metering.meters.catalogue import Denominator, Kind, Meter
from metering.meters.filling import added_by_quarter
from metering.meters.hours import Piece, RowHour
from metering.usage.model import NOT_BILLED, GapRule, MeterPart, MeterRow, MeterUsage

_FIELDS = 10


@dataclass(frozen=True, slots=True)
class MeterRequest:
    """What is asked for. `group_by`: cluster, project or None; `gaps`: what missing time of a gauge counts as."""

    organization: OrganizationId
    meter: str
    window: Window
    group_by: str | None
    gaps: GapRule = NOT_BILLED


class SealedRow(NamedTuple):
    """A row of an hour as it is stored. `dimensions` and `figures` are JSON: `render_figures`."""

    hour_ms: int
    revision: int
    number: int
    project: str
    cluster: str
    dimensions: str
    figures: str
    sources: tuple[str, ...]
    places: str = ""  # no part of the leaf: merging moves rows and changes nothing


@dataclass(frozen=True, slots=True)
class _Stored:
    """A row of an hour, and the quarters of it that lie in the window."""

    row: MeterRow
    quarters: Sequence[tuple[int, int]]  # start ms, quantity
    points: Sequence[tuple[int, int | None]]
    values: frozenset[str]


def reach_of(meter: Meter, request: MeterRequest) -> Window:
    """Whose rows are needed: a gap that the policy fills may have begun before the window."""
    window = request.window
    if request.gaps.policy == "not-billed" or meter.kind is not Kind.GAUGE_INTEGRAL:
        return window  # a counter counts what it grew by after the gap
    return Window(window.start_ms - request.gaps.most_ms, window.end_ms)


def usage_of(
    meter: Meter, catalogue: str, request: MeterRequest, sealed: Iterable[SealedRow], hours: int
) -> MeterUsage:
    """What `sealed`, the rows of `reach_of`, give; `hours` of those that touch the window are closed."""
    window, kept = request.window, list(sealed)
    added = _added(kept, meter, request)
    inside = (row for row in kept if Window(row.hour_ms, row.hour_ms + HOUR_MS).intersection(window))
    stored = [_stored(row, meter, window, added) for row in inside]
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
        sealed=hours * HOUR_MS == whole_hours(window).length_ms,
        definition=meter.model_dump_json(),
        leaves=tuple(sorted(canonical_leaf(request, row) for row in kept)),
    )


def render_dimensions(row: RowHour) -> str:
    """`SealedRow.dimensions` of a row."""
    return json.dumps(row.key.dimensions)


def render_figures(row: RowHour) -> str:
    """`SealedRow.figures` of a row: quarters, levels and values where its kind has them."""
    quarters = [[each.quantity, each.held_on, each.observed_ms, each.missing_ms] for each in row.pieces]
    figures: dict[str, Any] = {"quarters": quarters}
    if row.points:
        figures["points"] = row.points
    if row.values is not None:
        figures["values"] = row.values
    return json.dumps(figures, separators=(",", ":"), sort_keys=True)


def canonical_leaf(request: MeterRequest, row: SealedRow) -> bytes:
    """A row as tab-separated text that ends in a line feed; ids hold neither, and JSON escapes both."""
    *stored, sources, _ = row
    fields = (request.organization, request.meter, *stored, ",".join(sources))
    return ("\t".join(map(str, fields)) + "\n").encode()


def parse_leaves(content: bytes, request: MeterRequest, source: str) -> tuple[SealedRow, ...]:
    """The rows of sorted leaves, each after the one before. Raises InvalidInput with the line."""
    rows, before = [], b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        where = f"line {number}"
        try:
            fields = line.decode().removesuffix("\n").split("\t")
            if len(fields) != _FIELDS:
                raise ValueError(f"{len(fields)} fields")
            hour_ms, revision, count = map(int, fields[2:5])
            project, cluster, dimensions, figures, named = fields[5:]
            sources = tuple(named.split(",")) if named else ()
            row = SealedRow(hour_ms, revision, count, project, cluster, dimensions, figures, sources)
        except ValueError as error:
            allowed = f"a row of a meter, of {_FIELDS} fields"
            raise InvalidInput.single(source, where, str(error), allowed) from error
        if canonical_leaf(request, row) != line:
            raise InvalidInput.single(source, where, "another row or spelling", f"a row of {request.meter}")
        if line <= before:
            raise InvalidInput.single(source, where, "a line that is not after the one before", "sorted lines")
        rows.append(row)
        before = line
    return tuple(sorted(rows))


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


def _added(rows: Iterable[SealedRow], meter: Meter, request: MeterRequest) -> _Added:
    """What the gap policy adds, to integrals of gauges alone."""
    if request.gaps.policy == "not-billed" or meter.kind is not Kind.GAUGE_INTEGRAL:
        return {}
    quarters: dict[tuple[str, str, str], dict[int, Piece]] = defaultdict(dict)
    for row in rows:
        key = row.project, row.cluster, row.dimensions
        for number, figures in enumerate(json.loads(row.figures)["quarters"]):
            quarters[key][row.hour_ms + number * QUARTER_MS] = Piece(*figures)
    return {key: added_by_quarter(found, request.window, request.gaps) for key, found in quarters.items()}


def _stored(row: SealedRow, meter: Meter, window: Window, of_gaps: _Added) -> _Stored:
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
        sources=row.sources,
        places=row.places,
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
