"""The horizon: the last push of every collector that the lake holds, so that a push that comes again is dropped.

It is an object under its own hash, and the samples commit names that hash, so it changes in the same instant as
the rows and the positions do. The document carries the id of its commit: no two commits write the same object,
therefore an unreferenced one can never be needed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.objects import ObjectNotFound, ObjectStore, PreconditionFailed
from metering.lake.errors import LakeDamaged
from metering.record import BatchHeader, Lane, Sequence

PREFIX = "horizon/"
_VERSION = 1


class Source(NamedTuple):
    """One ordered stream of pushes."""

    tenant: Tenant
    collector: CollectorId
    lane: Lane

    @classmethod
    def of(cls, header: BatchHeader) -> Source:
        return cls(header.tenant, header.collector, header.lane)


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the lake has of a source. `missing_pushes` counts numbers that were skipped, ever."""

    sequence: Sequence | None
    received_ms: int
    complete_through_ms: int | None
    missing_pushes: int = 0


def is_stored(state: SourceState | None, header: BatchHeader) -> bool:
    """Whether this push lies at or below the horizon."""
    if state is None or state.sequence is None or header.sequence is None:
        return False
    return header.sequence <= state.sequence


def advance(state: SourceState | None, header: BatchHeader) -> SourceState:
    """The state after a push above the horizon; complete-through and received never step back."""
    known = state or SourceState(None, header.received_ms, None)
    return SourceState(
        sequence=header.sequence or known.sequence,
        received_ms=max(known.received_ms, header.received_ms),
        complete_through_ms=_latest(known.complete_through_ms, header.complete_through_ms),
        missing_pushes=known.missing_pushes + _gap(known.sequence, header.sequence),
    )


def _gap(last: Sequence | None, following: Sequence | None) -> int:
    if following is None:
        return 0
    if last is None or following.epoch != last.epoch:
        return max(0, following.number - 1)
    return max(0, following.number - last.number - 1)


def _latest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The states of all sources."""

    sources: Mapping[Source, SourceState] = field(default_factory=dict)

    def with_states(self, states: Mapping[Source, SourceState]) -> Horizon:
        return replace(self, sources={**self.sources, **states})

    def render(self, commit_id: str) -> bytes:
        """Canonical JSON, one row a source."""
        rows = [_render_row(source, self.sources[source]) for source in sorted(self.sources)]
        document = {"version": _VERSION, "commit": commit_id, "sources": rows}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse_horizon(content: bytes) -> Horizon:
    """The inverse of `Horizon.render`. Raises LakeDamaged."""
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise LakeDamaged(f"a horizon of version {document['version']!r}; this program reads {_VERSION}")
        return Horizon(dict(_parse_row(row) for row in document["sources"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LakeDamaged(f"a malformed horizon object: {error!r}; restore it from a copy") from error


def _render_row(source: Source, state: SourceState) -> list[Any]:
    tenant, last = source.tenant, state.sequence
    return [
        tenant.organization,
        tenant.project,
        source.collector,
        source.lane.value,
        [last.epoch, last.number, last.part] if last else None,
        state.received_ms,
        state.complete_through_ms,
        state.missing_pushes,
    ]


def _parse_row(row: list[Any]) -> tuple[Source, SourceState]:
    organization, project, collector, lane, last, received_ms, through_ms, missing = row
    source = Source(Tenant(OrganizationId(organization), ProjectId(project)), CollectorId(collector), Lane(lane))
    return source, SourceState(Sequence(*last) if last else None, received_ms, through_ms, missing)


class HorizonStore:
    """Horizon objects, the last one cached."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._cached: tuple[str, Horizon] | None = None

    async def load(self, sha256: str | None) -> Horizon:
        """The horizon of that hash; None is the empty one. Raises LakeDamaged, ObjectsUnavailable."""
        if sha256 is None:
            return Horizon()
        if self._cached and self._cached[0] == sha256:
            return self._cached[1]
        try:
            content = await self._objects.get(object_name(sha256))
        except ObjectNotFound as error:
            raise LakeDamaged(f"the horizon object {sha256} is gone; restore it from a copy") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LakeDamaged(f"the horizon object {sha256} was altered; restore it from a copy")
        horizon = parse_horizon(content)
        self._cached = (sha256, horizon)
        return horizon

    async def save(self, horizon: Horizon, commit_id: str) -> str:
        """Store, and return the hash. Raises ObjectsUnavailable."""
        content = horizon.render(commit_id)
        sha256 = hashlib.sha256(content).hexdigest()
        with suppress(PreconditionFailed):  # stored by an earlier attempt of this very commit
            await self._objects.put(object_name(sha256), content, if_absent=True)
        self._cached = (sha256, horizon)
        return sha256


def object_name(sha256: str) -> str:
    """Where the horizon of that hash is stored."""
    return f"{PREFIX}{sha256}.json"
