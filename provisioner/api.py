"""The facade of the provisioner: organizations, projects, clusters and their jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import Retry
from kernel.ids import ClusterId, JobId, OrganizationId, ProjectId, new_id, parse_customer_project, parse_id
from kernel.logs import logger
from provisioner import store
from provisioner.declaration import declare_lost
from provisioner.errors import JobUnfinished
from provisioner.lifecycle import Operation, State
from provisioner.operations import Operations, Patience
from provisioner.ports import Audit, Capacity, Engine, Placement, Provider
from provisioner.records import Cluster, Job, JobState, Organization, Project
from provisioner.requests import Desk, Request, scaled
from provisioner.spec import ClusterSpec, parse_name
from provisioner.transitions import Transition, list_transitions

_log = logger("provisioner")
T = TypeVar("T")
WAIT_LOOK_SECONDS = 0.1
WATCH_SECONDS = 5.0
OVERDUE_MS = 15 * 60_000


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What is asked for: `id` None takes a random one."""

    project: ProjectId
    name: str
    spec: ClusterSpec
    id: ClusterId | None = None


class Provisioner:
    """Takes requests and answers jobs. Between `start` and `stop` this process also runs them.

    Without `start` it only enqueues, for the process that runs the engine on the same database.
    """

    def __init__(
        self,
        database: Database,
        engine: Engine,
        provider: Provider,
        capacity: Capacity,
        audit: Audit,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self._database = database
        self._engine = engine
        self._provider = provider
        self._capacity = capacity
        self._audit = audit
        self._clock = clock
        self._desk = Desk(engine, capacity, audit, clock)
        self._operations = Operations(database, provider, capacity, audit, clock, patience or Patience())

    async def start(self) -> None:
        """Run jobs, first those that a dead process left unfinished."""
        await self._engine.start(self._operations.run)

    async def stop(self) -> None:
        """Run no more jobs. Idempotent."""
        await self._engine.stop()

    async def create_organization(self, name: str, actor: str, organization: str | None = None) -> Organization:
        """Raises InvalidInput (name, id), NameTaken."""
        parse_name(name, "organization")
        id_ = OrganizationId(parse_id(organization or new_id("org"), "organization"))
        made = Organization(id_, name, self._clock.now_ms())

        def create(connection: sa.Connection) -> Organization:
            store.insert_organization(connection, made)
            self._audit.append(connection, actor, "organization.create", made.id, {"name": name})
            return made

        return await self._database.run(create)

    async def create_project(
        self, organization: OrganizationId, name: str, actor: str, project: str | None = None
    ) -> Project:
        """Raises InvalidInput (name, id), Unknown (organization), NameTaken."""
        parse_name(name, "project")
        id_ = parse_customer_project(project or new_id("project"))
        made = Project(id_, organization, name, self._clock.now_ms())

        def create(connection: sa.Connection) -> Project:
            store.load_organization(connection, organization)
            store.insert_project(connection, made)
            self._audit.append(connection, actor, "project.create", made.id, {"name": name})
            return made

        return await self._database.run(create)

    async def create_cluster(self, new: NewCluster, actor: str) -> Job:
        """Raises InvalidInput (name, id), Unknown (project), NameTaken, and the capacity's Refuse."""
        parse_name(new.name, "cluster")
        cluster = ClusterId(parse_id(new.id or new_id("cluster"), "cluster"))

        def create(connection: sa.Connection) -> Job:
            project = store.load_project(connection, new.project)
            placement = Placement(project.organization, project.id, cluster)
            return self._desk.create(connection, placement, new.name, new.spec, actor)

        return await self._enqueue(create)

    async def scale_cluster(
        self, cluster: ClusterId, spec: ClusterSpec, actor: str, generation: int | None = None
    ) -> Job:
        """To the allocation of `spec`; the version stays. Raises as `Desk.submit`."""

        def scale(connection: sa.Connection) -> Job:
            wanted = scaled(store.load_cluster(connection, cluster, lock=True), spec)
            return self._desk.submit(connection, Request(cluster, Operation.SCALE, actor, wanted, generation))

        return await self._enqueue(scale)

    async def suspend_cluster(self, cluster: ClusterId, actor: str) -> Job:
        """Stop the server, keep the data. Raises as `Desk.submit`."""
        return await self._submit(Request(cluster, Operation.SUSPEND, actor))

    async def resume_cluster(self, cluster: ClusterId, actor: str) -> Job:
        """Start it again, a failed one too. Raises as `Desk.submit`."""
        return await self._submit(Request(cluster, Operation.RESUME, actor))

    async def delete_cluster(self, cluster: ClusterId, actor: str) -> Job:
        """Remove server and data for good. Raises as `Desk.submit`."""
        return await self._submit(Request(cluster, Operation.DELETE, actor))

    async def organizations(self) -> list[Organization]:
        """All of them, by name."""
        return await self._database.run(store.list_organizations)

    async def projects(self, organization: OrganizationId | None = None) -> list[Project]:
        """Of one organization or of all."""
        return await self._database.run(lambda connection: store.list_projects(connection, organization))

    async def cluster(self, cluster: ClusterId) -> Cluster:
        """Raises Unknown."""
        return await self._database.run(lambda connection: store.load_cluster(connection, cluster))

    async def clusters(
        self, organization: OrganizationId | None = None, project: ProjectId | None = None, *, deleted: bool = False
    ) -> list[Cluster]:
        """In the order they were created; `deleted` ones too if asked for."""
        return await self._database.run(
            lambda connection: store.list_clusters(connection, organization, project, deleted=deleted)
        )

    async def job(self, job: JobId) -> Job:
        """Raises Unknown."""
        return await self._database.run(lambda connection: store.load_job(connection, job))

    async def wait(self, job: JobId, timeout_seconds: float) -> Job:
        """The job once it is done, whether it succeeded or not. Raises JobUnfinished, Unknown."""
        deadline = self._clock.monotonic() + timeout_seconds
        while not (found := await self.job(job)).is_done:
            if self._clock.monotonic() >= deadline:
                raise JobUnfinished(
                    f"job {job} is {found.state} after {timeout_seconds:g} s: it goes on, look again"
                )
            await self._clock.sleep(WAIT_LOOK_SECONDS)
        return found

    async def observe(self) -> list[ClusterId]:
        """Look at every running cluster once; those whose server is dead become FAILED and are answered."""
        running = [cluster for cluster in await self.clusters() if cluster.state is State.RUNNING]
        return [cluster.id for cluster in running if await self._is_lost(cluster)]

    async def overdue(self) -> list[Job]:
        """Jobs that should have ended long ago: an engine of another version, or one that does not run."""
        now = self._clock.now_ms()
        jobs = await self._database.run(store.unfinished_jobs)
        return [job for job in jobs if now - job.created_ms > OVERDUE_MS]

    async def watch(self) -> None:
        """`observe` and report overdue jobs, for ever. A passing fault is logged and looked past."""
        while True:
            await self._clock.sleep(WATCH_SECONDS)
            try:
                await self._look_around()
            except Retry as error:
                _log.warning("watch_failed", error=str(error))

    async def _look_around(self) -> None:
        for cluster in await self.observe():
            _log.error("cluster_lost", cluster=cluster)
        for job in await self.overdue():
            _log.error("job_overdue", job=job.id, cluster=job.cluster, state=job.state.value)

    async def _is_lost(self, cluster: Cluster) -> bool:
        seen = await self._provider.observe(cluster.placement)
        if seen.running:
            return False
        settle = partial(
            declare_lost,
            cluster_id=cluster.id,
            seen=seen,
            capacity=self._capacity,
            audit=self._audit,
            now_ms=self._clock.now_ms(),
        )
        lost = await self._database.run(settle)
        if lost:
            await self._provider.announce(cluster.placement, State.FAILED)
        return lost

    async def _submit(self, request: Request) -> Job:
        return await self._enqueue(lambda connection: self._desk.submit(connection, request))

    async def _enqueue(self, transaction: Callable[[sa.Connection], T]) -> T:
        await asyncio.to_thread(self._engine.prepare)
        result = await self._database.run(transaction)
        crash_point("provisioner.committed")
        return result


__all__ = [
    "Cluster",
    "ClusterSpec",
    "Job",
    "JobState",
    "NewCluster",
    "Organization",
    "Project",
    "Provisioner",
    "State",
    "Transition",
    "list_transitions",
]
