"""A provisioner on the in-memory engine and virtual time, and a capacity kept in the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import sqlalchemy as sa

from kernel.audit import AuditLog
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.ids import ClusterId, JobId, OrganizationId, ProjectId
from provisioner.api import NewCluster, Provisioner
from provisioner.capacity import over_capacity
from provisioner.engines.memory import MemoryEngine
from provisioner.memory import MemoryProvider
from provisioner.operations import Patience
from provisioner.ports import Capacity
from provisioner.records import Cluster, Job
from provisioner.spec import ClusterSpec, sized

ORGANIZATION = OrganizationId("org-a")
PROJECT = ProjectId("project-a")
CLUSTER = ClusterId("cluster-a")
ACTOR = "test"
VERSION = "2.3.5"

# Tables of this double are its own: they are not the product's, so not on its metadata.
_tables = sa.MetaData()
_licences = sa.Table(
    "test_licences",
    _tables,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("milli_vcpu", sa.BigInteger, nullable=False),
)
_reservations = sa.Table(
    "test_reservations",
    _tables,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("subject", sa.String(63), primary_key=True),
    sa.Column("milli_vcpu", sa.BigInteger, nullable=False),
)


class DatabaseCapacity:
    """A licence of `milli_vcpu` for each organization, reserved under the lock of its row."""

    def __init__(self, database: Database, milli_vcpu: int) -> None:
        self._milli_vcpu = milli_vcpu
        database.transact(_tables.create_all)

    def reserve(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu: int, job: JobId
    ) -> None:
        licence = sa.select(_licences).where(_licences.c.organization == organization).with_for_update()
        if connection.execute(licence).one_or_none() is None:
            values = {"organization": organization, "milli_vcpu": self._milli_vcpu}
            connection.execute(_licences.insert().values(values))
        others = sa.select(sa.func.coalesce(sa.func.sum(_reservations.c.milli_vcpu), 0)).where(
            _reservations.c.organization == organization, _reservations.c.subject != subject
        )
        needed = int(connection.execute(others).scalar_one()) + milli_vcpu
        if needed > self._milli_vcpu:
            raise over_capacity(organization, needed, self._milli_vcpu)
        self._set(connection, organization, subject, milli_vcpu)

    def release(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu_remaining: int
    ) -> None:
        self._set(connection, organization, subject, milli_vcpu_remaining)

    @staticmethod
    def _set(connection: sa.Connection, organization: str, subject: str, milli_vcpu: int) -> None:
        mine = (_reservations.c.organization == organization) & (_reservations.c.subject == subject)
        if connection.execute(_reservations.update().where(mine).values(milli_vcpu=milli_vcpu)).rowcount == 0:
            values = {"organization": organization, "subject": subject, "milli_vcpu": milli_vcpu}
            connection.execute(_reservations.insert().values(values))

    @staticmethod
    def held(database: Database) -> dict[str, int]:
        """Subject to milli-vCPU, without those that hold nothing."""

        def load(connection: sa.Connection) -> dict[str, int]:
            rows = connection.execute(sa.select(_reservations).where(_reservations.c.milli_vcpu > 0))
            return {row.subject: row.milli_vcpu for row in rows}

        return database.transact(load)


@dataclass
class World:
    """Everything a test of the rules touches."""

    database: Database
    clock: VirtualClock
    engine: MemoryEngine
    provider: MemoryProvider
    provisioner: Provisioner

    async def finish(self, asked: Job) -> Job:
        """Run the job to its end on virtual time."""
        await self.drain()
        return await self.provisioner.job(asked.id)

    async def drain(self) -> None:
        running = asyncio.create_task(self.engine.drain())
        while not running.done():
            await self.clock.advance(0.25)
            await asyncio.wait({running}, timeout=0.001)  # the database answers from a thread
        await running

    async def create(self, size: str = "2cu", cluster: ClusterId = CLUSTER) -> Job:
        new = NewCluster(PROJECT, cluster, spec(size), cluster)
        return await self.finish(await self.provisioner.create_cluster(new, ACTOR))

    async def cluster(self, cluster: ClusterId = CLUSTER) -> Cluster:
        return await self.provisioner.cluster(cluster)

    def held(self) -> dict[str, int]:
        return DatabaseCapacity.held(self.database)


async def make_world(database: Database, milli_vcpu: int = 8000, capacity: Capacity | None = None) -> World:
    """An organization with a project, and a licence of 8 vCPU. The database is migrated."""
    clock = VirtualClock()
    engine = MemoryEngine(database)
    provider = MemoryProvider(clock)
    provisioner = Provisioner(
        database,
        engine,
        provider,
        capacity or DatabaseCapacity(database, milli_vcpu),
        AuditLog(database, clock),
        clock,
        Patience(ready_seconds=30),
    )
    await provisioner.create_organization("acme", ACTOR, ORGANIZATION)
    await provisioner.create_project(ORGANIZATION, "one", ACTOR, PROJECT)
    await provisioner.start()
    return World(database, clock, engine, provider, provisioner)


def spec(size: str) -> ClusterSpec:
    return sized(size, VERSION)
