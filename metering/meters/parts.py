"""A meter's usage of a window from the rows of its sealed hours. Pure: whoever has the rows gets the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache, partial
from hashlib import sha256
from typing import Any, NamedTuple

from kernel.ids import ClusterId, ProjectId
from kernel.lazy import LazySequence
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window, whole_hours
from metering.meters.arithmetic import SLOT_MS, nearest_rank, slot_integrals
from metering.meters.catalogue import Denominator, Kind, Meter
from metering.meters.filling import added_by_quarter
from metering.meters.hours import Piece
from metering.meters.sealed import SealedRow, canonical_leaf
from metering.usage.model import MeterPart, MeterRequest, MeterRow, MeterUsage
from metering.usage.rows import Leaves

_NO_VALUES = frozenset[str]()


class _Piece(NamedTuple):
    """The part of a row that lies in the window, of which nothing is made an object before it is looked at."""

    row: SealedRow
    start_ms: int
    end_ms: int
    quarters: Sequence[int]  # the quantity of each quarter of it, with what was filled in
    quantity: int
    observed_ms: int
    missing_ms: int
    estimated_ms: int
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
    pieces = list(_pieces(kept, meter, request))
    return MeterUsage(
        organization=request.organization,
        meter=meter.meter,
        catalogue=catalogue,
        unit=meter.unit,
        window=window,
        parts=tuple(_parts(meter, pieces, request)),
        rows=LazySequence(len(pieces), lambda: tuple(map(_meter_row, pieces))),
        observed_ms=sum(piece.observed_ms for piece in pieces),
        missing_ms=sum(piece.missing_ms for piece in pieces),
        estimated_ms=sum(piece.estimated_ms for piece in pieces),
        revision_digest=_digest(request, catalogue, pieces),
        sealed=hours * HOUR_MS == whole_hours(window).length_ms,
        definition=meter.model_dump_json(),
        leaves=Leaves(len(kept), lambda: tuple(sorted([canonical_leaf(request, row) for row in kept]))),
    )


def _parts(meter: Meter, pieces: Sequence[_Piece], request: MeterRequest) -> Iterable[MeterPart]:
    groups: dict[str, list[_Piece]] = defaultdict(list)
    for each in pieces:
        group = {"cluster": each.row.cluster, "project": each.row.project}.get(request.group_by or "", "")
        groups[group].append(each)
    for group, rows in sorted(groups.items()):
        hourly = _hourly(meter, rows, request.window)
        yield MeterPart(group, meter.in_units(_quantity(meter, rows, request.window)), hourly)


def _hourly(meter: Meter, pieces: Sequence[_Piece], window: Window) -> tuple[Fraction, ...]:
    """Hours of the window: they begin where it begins."""
    if not meter.kind.adds_up:
        return ()
    sums = [0] * -(-window.length_ms // HOUR_MS)
    for each in pieces:
        first, behind_ms = divmod(each.start_ms - window.start_ms, HOUR_MS)
        if not behind_ms:  # all of it lies in one of them
            sums[first] += each.quantity
            continue
        for number, quantity in enumerate(each.quarters):
            sums[(each.start_ms + number * QUARTER_MS - window.start_ms) // HOUR_MS] += quantity
    in_units = {each: meter.in_units(each) for each in set(sums)}
    return tuple(in_units[each] for each in sums)


def _quantity(meter: Meter, pieces: Sequence[_Piece], window: Window) -> Fraction | int:
    if meter.kind.adds_up:
        return sum(each.quantity for each in pieces)
    if meter.kind is Kind.UNIQUE_COUNT:
        return len(frozenset[str]().union(*(each.values for each in pieces)))
    step, seen = _summed(pieces, window)
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


def _summed(pieces: Sequence[_Piece], window: Window) -> tuple[StepFunction, StepFunction]:
    """The sum of the rows' levels inside the window, and of how many of them something was observed."""
    by_row: dict[object, list[_Piece]] = defaultdict(list)
    for each in pieces:
        by_row[each.row.project, each.row.cluster, each.row.dimensions].append(each)
    steps, seen = [], []
    for listed in by_row.values():
        levels: dict[int, int | None] = {}
        for each in listed:
            start_ms = each.row.hour_ms
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


def _pieces(kept: Sequence[SealedRow], meter: Meter, request: MeterRequest) -> Iterator[_Piece]:
    window, added = request.window, _added(kept, meter, request)
    is_simple = meter.kind.adds_up and not added
    before_ms, last_ms = window.start_ms - HOUR_MS, window.end_ms - HOUR_MS
    inside = [row for row in kept if before_ms < row.hour_ms < window.end_ms]
    figures = json.loads(f"[{','.join([row.figures for row in inside])}]")
    for row, each in zip(inside, figures, strict=True):
        start_ms = row.hour_ms
        if is_simple and window.start_ms <= start_ms <= last_ms:  # nearly all: no more than is needed
            quantities, _, observed, missing = zip(*each["quarters"], strict=True)
            figures_of_hour = sum(quantities), sum(observed), sum(missing), 0
            yield _Piece(row, start_ms, start_ms + HOUR_MS, quantities, *figures_of_hour, (), _NO_VALUES)
        else:
            yield _piece(row, each, meter, window, added.get((row.project, row.cluster, row.dimensions), {}))


def _piece(
    row: SealedRow, figures: Mapping[str, Any], meter: Meter, window: Window, added: Mapping[int, int]
) -> _Piece:
    start_ms, end_ms = max(row.hour_ms, window.start_ms), min(row.hour_ms + HOUR_MS, window.end_ms)
    first, end = (start_ms - row.hour_ms) // QUARTER_MS, (end_ms - row.hour_ms) // QUARTER_MS
    starts = range(start_ms, end_ms, QUARTER_MS)
    quarters = figures["quarters"][first:end]
    quantities = [each[0] + added.get(at, 0) for at, each in zip(starts, quarters, strict=True)]
    bits = (1 << end) - (1 << first)
    values = frozenset(value for value, seen in figures.get("values", {}).items() if seen & bits)
    points = [(at, level) for at, level in figures.get("points", ())]
    return _Piece(
        row,
        start_ms,
        end_ms,
        quantities,
        quantity=sum(quantities)
        if meter.kind.adds_up
        else _of_hour(meter, points, values, Window(start_ms, end_ms)),
        observed_ms=sum(each[2] for each in quarters),
        missing_ms=sum(each[3] for each in quarters),
        estimated_ms=sum(each[3] for at, each in zip(starts, quarters, strict=True) if at in added),
        points=points,
        values=values,
    )


def _meter_row(piece: _Piece) -> MeterRow:
    row = piece.row
    return MeterRow(
        project=ProjectId(row.project),
        cluster=ClusterId(row.cluster),
        dimensions=tuple((name, value) for name, value in json.loads(row.dimensions)),
        hour=Window(piece.start_ms, piece.end_ms),
        revision=row.revision,
        quantity=piece.quantity,
        observed_ms=piece.observed_ms,
        missing_ms=piece.missing_ms,
        estimated_ms=piece.estimated_ms,
        sources=row.sources,
        places=row.places,
    )


def _of_hour(meter: Meter, points: Sequence[tuple[int, int | None]], values: frozenset[str], inside: Window) -> int:
    """The row's integer where hours don't add up: the count, the peak, for latest the last level, for a percentile
    the integral.
    """
    if meter.kind is Kind.UNIQUE_COUNT:
        return len(values)
    step = StepFunction.of((at, level or 0) for at, level in points).within(inside)
    if meter.kind is Kind.PEAK:
        return step.maximum(inside)
    if meter.kind is Kind.PERCENTILE:
        return step.integral(inside)
    known = [level for at, level in points if level is not None and at < inside.end_ms]
    return known[-1] if known else 0


def _digest(request: MeterRequest, catalogue: str, pieces: Iterable[_Piece]) -> str:
    """Of the rows' canonical lines, in canonical order."""
    compact = cache(partial(json.dumps, separators=(",", ":")))  # of few texts, each in many rows
    again = cache(lambda text: compact(tuple(map(tuple, json.loads(text)))))
    lines = sorted([_line(piece, compact, again) for piece in pieces])
    head = f"{request.organization}\t{request.meter}\t{catalogue}\n"
    return sha256("".join([head, *lines]).encode()).hexdigest()


def _line(piece: _Piece, compact: Callable[[object], str], again: Callable[[str], str]) -> str:
    """A row as JSON without spaces."""
    row = piece.row
    return (
        f'{{"project":{compact(row.project)},"cluster":{compact(row.cluster)},'
        f'"dimensions":{again(row.dimensions)},"hour":[{piece.start_ms},{piece.end_ms}],'
        f'"revision":{row.revision},"quantity":"{piece.quantity}","observed_ms":{piece.observed_ms},'
        f'"missing_ms":{piece.missing_ms},"estimated_ms":{piece.estimated_ms},"sources":{compact(row.sources)}}}\n'
    )
