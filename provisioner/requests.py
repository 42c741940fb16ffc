"""Asking for an operation: check, reserve capacity, write the job, start the workflow, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import Conflict
from kernel.ids import ClusterId, JobId, new_id
from provisioner import store
from provisioner.errors import OperationRunning, StaleGeneration
from provisioner.lifecycle import Operation, State, allowed_operations, transition
from provisioner.ports import Audit, Capacity, Engine, Placement
from provisioner.records import Cluster, Job, JobState
from provisioner.spec import ClusterSpec
from provisioner.transitions import Transition, insert_transition

_NEEDS_CAPACITY = {Operation.CREATE, Operation.SCALE, Operation.RESUME}


@dataclass(frozen=True, slots=True)
class Request:
    """An operation on a cluster that exists. `generation`: the one the caller looked at, or None for any."""

    cluster: ClusterId
    operation: Operation
    actor: str
    spec: ClusterSpec | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes requests. Its calls act inside the caller's transaction."""

    engine: Engine
    capacity: Capacity
    audit: Audit
    clock: Clock

    def create(
        self, connection: sa.Connection, placement: Placement, name: str, spec: ClusterSpec, actor: str
    ) -> Job:
        """A new cluster in CREATING, and its job. Raises NameTaken and the capacity's Refuse."""
        now = self.clock.now_ms()
        job = self._job(Request(placement.cluster, Operation.CREATE, actor, spec), None, spec)
        cluster = Cluster(
            placement=placement,
            name=name,
            state=transition(None, Operation.CREATE),
            row_version=1,
            generation=1,
            desired=spec,
            observed=None,
            observed_generation=0,
            observed_ms=None,
            endpoint=None,
            reason=None,
            job=job.id,
            created_ms=now,
            changed_ms=now,
        )
        store.insert_cluster(connection, cluster)
        self._enqueue(connection, cluster, job)
        return job

    def submit(self, connection: sa.Connection, request: Request) -> Job:
        """The job of an operation on an existing cluster.

        Raises Unknown, OperationRunning, StaleGeneration, IllegalTransition, Conflict (nothing to change) and the
        capacity's Refuse.
        """
        cluster = store.load_cluster(connection, request.cluster, lock=True)
        state = _admit(cluster, request)
        spec = request.spec or cluster.desired
        job = self._job(request, cluster, spec)
        store.change_cluster(
            connection,
            cluster,
            state=state.value,
            generation=cluster.generation + 1,
            desired_spec=spec.render(),
            job=job.id,
            reason=None,
            changed_ms=job.created_ms,
        )
        self._enqueue(connection, cluster, job)
        return job

    def _job(self, request: Request, cluster: Cluster | None, spec: ClusterSpec) -> Job:
        return Job(
            id=JobId(new_id("job")),
            cluster=request.cluster,
            operation=request.operation,
            state=JobState.QUEUED,
            stage="queued",
            former_state=cluster.state if cluster else None,
            former_spec=cluster.desired if cluster else None,
            spec=spec,
            reason=None,
            actor=request.actor,
            created_ms=self.clock.now_ms(),
            started_ms=None,
            finished_ms=None,
        )

    def _enqueue(self, connection: sa.Connection, cluster: Cluster, job: Job) -> None:
        if job.operation in _NEEDS_CAPACITY:
            organization = cluster.placement.organization
            self.capacity.reserve(connection, organization, cluster.id, peak_milli_vcpu(job), job.id)
        store.insert_job(connection, job)
        state = transition(job.former_state, job.operation)
        under_way = Transition(cluster.placement, state, 0, peak_milli_vcpu(job), job.created_ms)
        insert_transition(connection, under_way)
        self.engine.enqueue(connection, job.id)
        self.audit.append(connection, job.actor, f"cluster.{job.operation}", cluster.id, details_of(job))
        crash_point("provisioner.reserved")


def peak_milli_vcpu(job: Job) -> int:
    """The most that runs at any moment of the operation: while a cluster is scaled, the larger of both."""
    asked = job.spec.allocation.licensed_milli_vcpu
    if job.operation is Operation.SCALE and job.former_spec:
        return max(asked, job.former_spec.allocation.licensed_milli_vcpu)
    return asked


def details_of(job: Job) -> dict[str, Any]:
    """What the audit log keeps of a job."""
    return {
        "job": job.id,
        "size": job.spec.size,
        "version": job.spec.version,
        "licensed_milli_vcpu": job.spec.allocation.licensed_milli_vcpu,
    }


def scaled(cluster: Cluster, spec: ClusterSpec) -> ClusterSpec:
    """`spec` for a cluster whose version stays what it is."""
    return replace(spec, version=cluster.desired.version)


def _admit(cluster: Cluster, request: Request) -> State:
    if cluster.job is not None:
        raise OperationRunning(
            f"cluster {cluster.id} is {cluster.state}: job {cluster.job} must end first, then ask again"
        )
    if request.generation is not None and request.generation != cluster.generation:
        raise StaleGeneration(
            f"cluster {cluster.id} is at generation {cluster.generation}, not {request.generation}: look again"
        )
    state = transition(cluster.state, request.operation)
    if request.operation is Operation.SCALE and request.spec == cluster.desired:
        others = ", ".join(allowed_operations(cluster.state))
        raise Conflict(f"cluster {cluster.id} has that allocation already; it admits: {others}")
    return state
