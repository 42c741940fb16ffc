"""Rows as values: organization, project, cluster, job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from kernel.ids import ClusterId, JobId, OrganizationId, ProjectId
from provisioner.lifecycle import Operation, State
from provisioner.ports import Placement
from provisioner.spec import ClusterSpec


class JobState(StrEnum):
    """QUEUED: committed, not begun. The last two are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Organization:
    id: OrganizationId
    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Project:
    id: ProjectId
    organization: OrganizationId
    name: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """`desired` is what was asked for last, `observed` what was last seen to run (None: nothing runs).

    They differ while an operation runs, and after one failed.
    """

    placement: Placement
    name: str
    state: State
    row_version: int
    generation: int
    desired: ClusterSpec
    observed: ClusterSpec | None
    observed_generation: int
    observed_ms: int | None
    endpoint: str | None
    reason: str | None
    job: JobId | None
    created_ms: int
    changed_ms: int

    @property
    def id(self) -> ClusterId:
        return self.placement.cluster

    @property
    def has_drifted(self) -> bool:
        """Whether what was seen is not what is desired, with no operation under way that would mend it."""
        return self.job is None and self.observed is not None and self.observed != self.desired

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Cluster:
        return cls(
            placement=Placement(OrganizationId(row.organization), ProjectId(row.project), ClusterId(row.id)),
            name=row.name,
            state=State(row.state),
            row_version=row.row_version,
            generation=row.generation,
            desired=ClusterSpec.parse(row.desired_spec),
            observed=ClusterSpec.parse(row.observed_spec) if row.observed_spec else None,
            observed_generation=row.observed_generation,
            observed_ms=row.observed_ms,
            endpoint=row.endpoint,
            reason=row.reason,
            job=JobId(row.job) if row.job else None,
            created_ms=row.created_ms,
            changed_ms=row.changed_ms,
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One operation on one cluster. `former_*` is what it goes back to when it fails; None for a create."""

    id: JobId
    cluster: ClusterId
    operation: Operation
    state: JobState
    stage: str
    former_state: State | None
    former_spec: ClusterSpec | None
    spec: ClusterSpec
    reason: str | None
    actor: str
    created_ms: int
    started_ms: int | None
    finished_ms: int | None

    @property
    def is_done(self) -> bool:
        return self.state in {JobState.SUCCEEDED, JobState.FAILED}

    @classmethod
    def of(cls, row: sa.Row[Any]) -> Job:
        return cls(
            id=JobId(row.id),
            cluster=ClusterId(row.cluster),
            operation=Operation(row.operation),
            state=JobState(row.state),
            stage=row.stage,
            former_state=State(row.former_state) if row.former_state else None,
            former_spec=ClusterSpec.parse(row.former_spec) if row.former_spec else None,
            spec=ClusterSpec.parse(row.spec),
            reason=row.reason,
            actor=row.actor,
            created_ms=row.created_ms,
            started_ms=row.started_ms,
            finished_ms=row.finished_ms,
        )
