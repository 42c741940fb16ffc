"""The process "dies" before or after any step, of any operation: the next one finishes the job, once."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest

from kernel.audit import AuditLog
from provisioner.engines.memory import Crashed
from provisioner.lifecycle import Operation, State
from provisioner.records import Job, JobState
from tests.provisioner.world import ACTOR, CLUSTER, World, spec

STEPS = ["begin", "act", "declare"]
END = {
    Operation.SCALE: (State.RUNNING, 4000),
    Operation.SUSPEND: (State.SUSPENDED, 0),
    Operation.RESUME: (State.RUNNING, 2000),
    Operation.DELETE: (State.DELETED, 0),
}


def ask(world: World, operation: Operation) -> Awaitable[Job]:
    asks: dict[Operation, Callable[[], Awaitable[Job]]] = {
        Operation.SCALE: lambda: world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR),
        Operation.SUSPEND: lambda: world.provisioner.suspend_cluster(CLUSTER, ACTOR),
        Operation.RESUME: lambda: world.provisioner.resume_cluster(CLUSTER, ACTOR),
        Operation.DELETE: lambda: world.provisioner.delete_cluster(CLUSTER, ACTOR),
    }
    return asks[operation]()


@pytest.mark.parametrize(("operation", "step", "where"), list(itertools.product(END, STEPS, ["before", "after"])))
async def test_a_job_is_finished_once_whatever_step_it_died_at(
    world: World, operation: Operation, step: str, where: str
) -> None:
    await world.create("2cu")
    if operation is Operation.RESUME:
        await world.finish(await world.provisioner.suspend_cluster(CLUSTER, ACTOR))
    asked = await ask(world, operation)
    boots = world.provider.calls["boot"]
    setattr(world.engine, f"crash_{where}", step)
    with pytest.raises(Crashed):
        await world.drain()
    setattr(world.engine, f"crash_{where}", None)

    if where == "after" and step == "declare":
        # The job is done but for the engine, which still has to hear of it.
        await world.engine.replay(asked.id)
    job = await world.finish(asked)

    state, held = END[operation]
    cluster = await world.cluster()
    assert (job.state, cluster.state, cluster.job) == (JobState.SUCCEEDED, state, None)
    assert sum(world.held().values()) == held
    assert world.provider.announced[CLUSTER][-1] in {state, State.DELETING}
    assert world.provider.calls["boot"] - boots == (1 if operation in {Operation.SCALE, Operation.RESUME} else 0)
    ends = [event.action for event in AuditLog(world.database, world.clock).events()]
    assert ends.count(f"cluster.{operation}.succeeded") == 1


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_failed_scale_is_reverted_although_the_revert_died(world: World, where: str) -> None:
    await world.create("2cu")
    world.provider.never_ready = {"4cu"}
    asked = await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR)
    setattr(world.engine, f"crash_{where}", "revert")
    with pytest.raises(Crashed):
        await world.drain()
    setattr(world.engine, f"crash_{where}", None)
    if where == "after":
        await world.engine.replay(asked.id)
    job = await world.finish(asked)
    cluster = await world.cluster()
    assert (job.state, cluster.state, cluster.observed) == (JobState.FAILED, State.RUNNING, spec("2cu"))
    assert world.held() == {CLUSTER: 2000}
