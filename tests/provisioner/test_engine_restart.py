"""The durable engine stopped in good order while a job runs; and PostgreSQL under the rules of the lifecycle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from console.migrate import migrate
from kernel.audit import AuditLog
from kernel.clock import SystemClock
from kernel.database import Database
from kernel.ids import ClusterId
from provisioner.api import JobState, NewCluster, Provisioner
from provisioner.engines.durable import DurableEngine, EngineBusy
from provisioner.errors import OverCapacity
from provisioner.lifecycle import State
from provisioner.memory import MemoryProvider
from provisioner.operations import Patience
from tests.provisioner.world import ACTOR, CLUSTER, ORGANIZATION, PROJECT, DatabaseCapacity, make_world, spec


def vendor(database: Database, provider: MemoryProvider) -> Provisioner:
    clock = SystemClock()
    capacity = DatabaseCapacity(database, 8000)
    patience = Patience(ready_seconds=60, look_every_seconds=0.05)
    engine = DurableEngine(database)
    return Provisioner(database, engine, provider, capacity, AuditLog(database, clock), clock, patience)


async def test_a_job_that_runs_when_the_engine_stops_is_left_to_the_next(database: Database) -> None:
    provider = MemoryProvider(SystemClock(), boot_seconds=float("inf"))
    first = vendor(database, provider)
    await first.create_organization("acme", ACTOR, ORGANIZATION)
    await first.create_project(ORGANIZATION, "one", ACTOR, PROJECT)
    await first.start()
    job = await first.create_cluster(NewCluster(PROJECT, "main", spec("1cu"), CLUSTER), ACTOR)
    while not provider.runs(CLUSTER):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    with pytest.raises(EngineBusy):
        await vendor(database, provider).start()
    await first.stop()
    await first.stop()
    assert (await first.job(job.id)).state is JobState.RUNNING

    provider.make_ready(CLUSTER)
    second = vendor(database, provider)
    await second.start()
    assert (await second.wait(job.id, 60)).state is JobState.SUCCEEDED
    assert provider.calls["boot"] == 1
    await second.stop()


@pytest.fixture
def postgres(migrated_postgres_url: str) -> Iterator[Database]:
    made = Database(migrated_postgres_url)
    migrate(made)
    yield made
    made.close()


@pytest.mark.services
async def test_on_postgresql_scale_ups_that_do_not_fit_together_are_not_both_admitted(postgres: Database) -> None:
    world = await make_world(postgres)
    names = [ClusterId(f"cluster-{letter}") for letter in "abcd"]
    for name in names:
        await world.create("1cu", name)  # 4 of 8 vCPU; each scale to 4cu needs 3 more
    asks = (world.provisioner.scale_cluster(name, spec("4cu"), ACTOR) for name in names)
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(answer, OverCapacity) for answer in answers) == 3
    assert sum(world.held().values()) == 7000
    await world.drain()
    states = [(cluster.state, cluster.desired.size) for cluster in await world.provisioner.clusters()]
    assert sorted(states) == [(State.RUNNING, "1cu")] * 3 + [(State.RUNNING, "4cu")]


@pytest.mark.services
async def test_on_postgresql_a_name_is_free_again_once_its_cluster_is_deleted(postgres: Database) -> None:
    world = await make_world(postgres)
    await world.create("1cu")
    await world.finish(await world.provisioner.delete_cluster(CLUSTER, ACTOR))
    again = await world.provisioner.create_cluster(NewCluster(PROJECT, CLUSTER, spec("1cu")), ACTOR)
    assert (await world.finish(again)).state is JobState.SUCCEEDED
