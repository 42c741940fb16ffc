"""Declaring how a job ended, or that a server was lost: state, capacity, job and audit in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from kernel.ids import ClusterId, JobId
from provisioner import store
from provisioner.lifecycle import Outcome, State, transition
from provisioner.ports import Audit, Capacity, Observation
from provisioner.records import Cluster, Job, JobState
from provisioner.requests import details_of, peak_milli_vcpu
from provisioner.spec import ClusterSpec
from provisioner.transitions import Transition, insert_transition

SYSTEM_ACTOR = "provisioner"


@dataclass(frozen=True, slots=True)
class Declaration:
    """How `job` ended, and what was seen at its end. `reason` when it failed."""

    job: JobId
    outcome: Outcome
    seen: Observation
    reason: str | None = None


def declare(
    connection: sa.Connection, *, declaration: Declaration, capacity: Capacity, audit: Audit, now_ms: int
) -> Cluster:
    """The cluster as it is after the job. A job that is done already changes nothing (a step ran again)."""
    job = store.load_job(connection, declaration.job)
    cluster = store.load_cluster(connection, job.cluster, lock=True)
    if job.is_done:
        return cluster
    succeeded = declaration.outcome is Outcome.SUCCEEDED
    state = transition(cluster.state, declaration.outcome)
    desired = job.spec if succeeded or job.former_spec is None else job.former_spec
    _settle(connection, cluster, state, desired, declaration, now_ms)
    remaining = _remaining_milli_vcpu(job, declaration.seen)
    # A running server that can't be read may be anything up to what it may hold.
    least = remaining if declaration.seen.allocation or not remaining else 0
    insert_transition(connection, Transition(cluster.placement, state, least, remaining, now_ms))
    capacity.release(connection, cluster.placement.organization, cluster.id, remaining)
    final = JobState.SUCCEEDED if succeeded else JobState.FAILED
    store.change_job(
        connection, job.id, state=final.value, stage="done", reason=declaration.reason, finished_ms=now_ms
    )
    details = {**details_of(job), "state": state.value, "held_milli_vcpu": remaining}
    if declaration.reason:
        details["reason"] = declaration.reason
    audit.append(connection, job.actor, f"cluster.{job.operation}.{declaration.outcome}", cluster.id, details)
    return replace(cluster, state=state, job=None)


def declare_lost(
    connection: sa.Connection,
    *,
    cluster_id: ClusterId,
    seen: Observation,
    capacity: Capacity,
    audit: Audit,
    now_ms: int,
) -> bool:
    """A running cluster whose server is dead is FAILED and holds no capacity. Whether that was so."""
    cluster = store.load_cluster(connection, cluster_id, lock=True)
    if cluster.job is not None or cluster.state is not State.RUNNING:
        return False
    reason = f"its server ended by itself: {seen.detail}"
    declaration = Declaration(JobId(""), Outcome.LOST, seen, reason)
    state = transition(cluster.state, Outcome.LOST)
    _settle(connection, cluster, state, cluster.desired, declaration, now_ms)
    insert_transition(connection, Transition(cluster.placement, state, 0, 0, now_ms))
    capacity.release(connection, cluster.placement.organization, cluster.id, 0)
    audit.append(connection, SYSTEM_ACTOR, "cluster.lost", cluster.id, {"reason": reason})
    return True


def _settle(
    connection: sa.Connection,
    cluster: Cluster,
    state: State,
    desired: ClusterSpec,
    declaration: Declaration,
    now_ms: int,
) -> None:
    seen = declaration.seen
    observed = _observed_spec(seen, desired)
    values: dict[str, Any] = {
        "state": state.value,
        "desired_spec": desired.render(),
        "observed_spec": observed.render() if observed else None,
        "observed_ms": now_ms,
        "endpoint": seen.endpoint if seen.ready else None,
        "reason": declaration.reason,
        "job": None,
        "changed_ms": now_ms,
    }
    if declaration.outcome is Outcome.SUCCEEDED:
        values["observed_generation"] = cluster.generation
    store.change_cluster(connection, cluster, **values)


def _observed_spec(seen: Observation, desired: ClusterSpec) -> ClusterSpec | None:
    if seen.allocation is None or seen.version is None:
        return None
    size = desired.size if seen.allocation == desired.allocation else "custom"
    return ClusterSpec(seen.allocation, seen.version, size)


def _remaining_milli_vcpu(job: Job, seen: Observation) -> int:
    """What is still held: what was seen to run, or the most it can be when that can't be seen."""
    if not seen.running:
        return 0
    return seen.allocation.licensed_milli_vcpu if seen.allocation else peak_milli_vcpu(job)
