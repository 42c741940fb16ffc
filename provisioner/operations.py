"""The operations as durable workflows: begin, act, declare what was observed; or revert, and declare that.

Every step may run again after a crash: calls to the provider are create-or-get, and a job that is done is left
alone. A state is declared in the transaction that also gives back capacity, after it was observed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import ByocError, Refuse, Retry, truncate
from kernel.ids import JobId
from kernel.logs import logger
from provisioner import store
from provisioner.declaration import Declaration, declare
from provisioner.errors import NotReady
from provisioner.lifecycle import Operation, Outcome, State
from provisioner.ports import Audit, Capacity, Observation, Provider, Steps
from provisioner.records import Cluster, Job, JobState
from provisioner.spec import ClusterSpec

_log = logger("provisioner")
T = TypeVar("T")
Work = Callable[[Cluster, Job], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait and how often to try. All in seconds but `attempts`."""

    ready_seconds: float = 180.0  # from start to ready, or the operation has failed
    look_every_seconds: float = 0.5
    attempts: int = 4  # of each call to the provider that fails in passing
    backoff_seconds: float = 1.0  # before the second attempt; doubles, at most a minute


@dataclass(frozen=True, slots=True)
class Operations:
    """What the workflows need; `run` is the workflow."""

    database: Database
    provider: Provider
    capacity: Capacity
    audit: Audit
    clock: Clock
    patience: Patience = Patience()

    async def run(self, job: JobId, steps: Steps) -> None:
        """The workflow of one job."""
        await steps.step("begin", partial(self._begin, job))
        crash_point("provisioner.begun")
        problem = await steps.step("act", partial(self._attempt, job, self._act))
        crash_point("provisioner.acted")
        if not problem:
            problem = await steps.step("declare", partial(self._attempt, job, self._await_and_declare))
        if problem:
            crash_point("provisioner.failing")
            await steps.step("revert", partial(self._revert, job, problem))
        crash_point("provisioner.declared")

    async def _begin(self, job_id: JobId) -> str:
        now = self.clock.now_ms()

        def mark(connection: sa.Connection) -> tuple[Cluster, Job]:
            job = store.load_job(connection, job_id)
            if not job.is_done:
                started = now if job.started_ms is None else job.started_ms
                store.change_job(connection, job_id, state=JobState.RUNNING.value, stage="act", started_ms=started)
            return store.load_cluster(connection, job.cluster), job

        cluster, job = await self._until_done(lambda: self.database.run(mark))
        if not job.is_done:
            await self._attempt(job_id, self._announce)
        return cluster.state.value

    async def _announce(self, cluster: Cluster, _job: Job) -> None:
        await self.provider.announce(cluster.placement, cluster.state)

    async def _act(self, cluster: Cluster, job: Job) -> None:
        if job.operation is Operation.SUSPEND:
            await self.provider.stop(cluster.placement)
        elif job.operation is Operation.DELETE:
            await self.provider.remove(cluster.placement)
        else:
            await self.provider.start(cluster.placement, job.spec)

    async def _await_and_declare(self, cluster: Cluster, job: Job) -> None:
        if job.operation in {Operation.SUSPEND, Operation.DELETE}:
            seen = await self.provider.observe(cluster.placement)
            if seen.running or (job.operation is Operation.DELETE and seen.present):
                raise NotReady(f"it is still there after {job.operation}: {seen.detail or 'its server runs'}")
        else:
            seen = await self._await_ready(cluster, job.spec)
        crash_point("provisioner.observed")
        await self._declare(Declaration(job.id, Outcome.SUCCEEDED, seen))

    async def _await_ready(self, cluster: Cluster, spec: ClusterSpec) -> Observation:
        deadline = self.clock.monotonic() + self.patience.ready_seconds
        while True:
            seen = await self.provider.observe(cluster.placement)
            if seen.shows(spec):
                return seen
            if not seen.running:
                raise NotReady(f"its server ended before it was ready: {seen.detail}")
            if self.clock.monotonic() >= deadline:
                waited = f"{self.patience.ready_seconds:.0f} s"
                raise NotReady(f"its server was not ready within {waited}: {seen.detail or 'another spec runs'}")
            await self.clock.sleep(self.patience.look_every_seconds)

    async def _revert(self, job_id: JobId, problem: str) -> str:
        """Back to the former state if it can be; whatever was left is looked at and declared."""
        trouble = await self._attempt(job_id, self._restore)
        reason = truncate(f"{problem}; and going back failed: {trouble}" if trouble else problem, 1000)
        cluster, job = await self._load(job_id)
        seen = await self._until_done(lambda: self.provider.observe(cluster.placement))
        await self._declare(Declaration(job_id, _outcome_of_failure(job, seen), seen, reason))
        return reason

    async def _restore(self, cluster: Cluster, job: Job) -> None:
        if job.operation is Operation.SCALE and job.former_spec:
            try:
                await self.provider.start(cluster.placement, job.former_spec)
                await self._await_ready(cluster, job.former_spec)
            except ByocError:
                await self.provider.stop(cluster.placement)  # what is not ready must not be metered
                raise
        elif job.operation in {Operation.CREATE, Operation.RESUME}:
            await self.provider.stop(cluster.placement)

    async def _declare(self, declaration: Declaration) -> None:
        now = self.clock.now_ms()
        settle = partial(declare, declaration=declaration, capacity=self.capacity, audit=self.audit, now_ms=now)
        cluster = await self._until_done(lambda: self.database.run(settle))
        crash_point("provisioner.committed_state")
        await self._attempt(declaration.job, self._announce_current)
        _log.info("job_done", job=declaration.job, cluster=cluster.id, state=cluster.state.value)

    async def _announce_current(self, cluster: Cluster, _job: Job) -> None:
        if cluster.state is not State.DELETED:
            await self.provider.announce(cluster.placement, cluster.state)

    async def _load(self, job_id: JobId) -> tuple[Cluster, Job]:
        def load(connection: sa.Connection) -> tuple[Cluster, Job]:
            job = store.load_job(connection, job_id)
            return store.load_cluster(connection, job.cluster), job

        return await self._until_done(lambda: self.database.run(load))

    async def _attempt(self, job_id: JobId, work: Work) -> str:
        """Do `work`, again after a passing fault. Answers why it failed, or "" when it did not."""
        cluster, job = await self._load(job_id)
        delay = self.patience.backoff_seconds
        for left in reversed(range(self.patience.attempts)):
            try:
                await work(cluster, job)
            except (NotReady, Refuse) as error:
                return str(error) or type(error).__name__
            except Retry as error:
                if not left:
                    return f"{error} ({self.patience.attempts} attempts)"
                _log.warning("step_failed", job=job_id, error=str(error), attempts_left=left)
                await self.clock.sleep(delay)
                delay = min(60.0, delay * 2)
            except Exception as error:  # a defect must end the job with a reason, not hang it
                _log.exception("step_broken", job=job_id)
                return f"defect: {type(error).__name__}: {truncate(str(error))}"
            else:
                return ""
        return "no attempt was made"

    async def _until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """For what must not be given up: the fault passes, or this process is stopped."""
        delay = self.patience.backoff_seconds
        while True:
            try:
                return await work()
            except Retry as error:
                _log.warning("waiting", error=str(error), seconds=delay)
            await self.clock.sleep(delay)
            delay = min(60.0, delay * 2)


def _outcome_of_failure(job: Job, seen: Observation) -> Outcome:
    match job.operation:
        case Operation.SCALE if job.former_spec and seen.shows(job.former_spec):
            return Outcome.REVERTED
        case Operation.SUSPEND if job.former_spec and seen.shows(job.former_spec):
            return Outcome.REVERTED
        case Operation.RESUME if job.former_state is State.SUSPENDED and not seen.running:
            return Outcome.REVERTED
        case _:
            return Outcome.BROKEN
