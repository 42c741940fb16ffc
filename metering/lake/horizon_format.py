"""A horizon as canonical JSON, one row a source. Version 2; version 1 (one last push a source) is read too."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.epochs import EpochState
from metering.lake.errors import LakeDamaged
from metering.lake.horizon import Horizon, Source, SourceState
from metering.lake.intervals import Interval, Intervals
from metering.record import Lane

VERSION = 2
Row = list[Any]


def render_horizon(horizon: Horizon, commit_id: str) -> bytes:
    """The document of a horizon that this commit makes."""
    rows = [_render_row(source, horizon.sources[source]) for source in sorted(horizon.sources)]
    document = {"version": VERSION, "commit": commit_id, "sources": rows}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse_horizon(content: bytes) -> Horizon:
    """The inverse of `render_horizon`. Raises LakeDamaged."""
    try:
        document = json.loads(content)
        parse = _PARSERS.get(document["version"])
        if parse is None:
            raise LakeDamaged(f"a horizon of version {document['version']!r}; this program reads up to {VERSION}")
        return Horizon({_parse_source(row): parse(row[4:]) for row in document["sources"]})
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LakeDamaged(f"a malformed horizon object: {error!r}; restore it from a copy") from error


def _render_row(source: Source, state: SourceState) -> Row:
    tenant = source.tenant
    return [
        tenant.organization,
        tenant.project,
        source.collector,
        source.lane.value,
        state.received_ms,
        state.dropped_through,
        state.missing_before,
        state.through_ms,
        [_render_epoch(epoch, each) for epoch, each in state.epochs],
        *([list(state.given_up)] if state.given_up else []),
    ]


def _render_epoch(epoch: int, state: EpochState) -> Row:
    cut = [[number, list(parts)] for number, parts in state.cut]
    return [
        epoch,
        list(state.intervals),
        list(state.refused),
        state.closed_at,
        state.lost,
        state.floor,
        cut,
        state.cut_floor,
    ]


def _parse_source(row: Row) -> Source:
    organization, project, collector, lane = row[:4]
    return Source(Tenant(OrganizationId(organization), ProjectId(project)), CollectorId(collector), Lane(lane))


def _parse_state(row: Row) -> SourceState:
    received_ms, dropped_through, missing_before, through_ms, epochs, *rest = row
    states = tuple((each[0], _parse_epoch(each[1:])) for each in epochs)
    given_up = tuple((str(reason), int(numbers)) for reason, numbers in rest[0]) if rest else ()
    return SourceState(received_ms, states, dropped_through, missing_before, through_ms, given_up)


def _parse_epoch(row: Row) -> EpochState:
    intervals, refused, closed_at, lost, floor, cut, cut_floor = row
    parts = tuple((number, _intervals(each)) for number, each in cut)
    return EpochState(_intervals(intervals), _intervals(refused), closed_at, lost, floor, parts, cut_floor)


def _intervals(rows: list[Row]) -> Intervals:
    return tuple(Interval(*row) for row in rows)


def _parse_version_1(row: Row) -> SourceState:
    # It said which push was the last one, and took all below for stored; what was missing is counted already.
    last, received_ms, through_ms, missing = row
    if last is None:
        return SourceState(received_ms, missing_before=missing, through_ms=through_ms)
    epoch, number, part = last
    seen = (Interval(1, number, None, received_ms),)
    cut = ((number, (Interval(0, part, None, 0),)),) if part else ()
    state = EpochState(seen, floor=0, cut=cut, cut_floor=0)
    return SourceState(received_ms, ((epoch, state),), epoch - 1, missing, through_ms)


_PARSERS: dict[int, Callable[[Row], SourceState]] = {1: _parse_version_1, 2: _parse_state}
