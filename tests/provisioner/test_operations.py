"""The rules of the operations, on virtual time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from kernel.audit import AuditLog
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput, Refuse, Retry
from kernel.ids import ClusterId, ProjectId
from provisioner.api import NewCluster, list_transitions
from provisioner.errors import JobUnfinished, NameTaken, OperationRunning, OverCapacity, StaleGeneration, Unknown
from provisioner.lifecycle import IllegalTransition, State
from provisioner.records import JobState
from tests.provisioner.world import ACTOR, CLUSTER, ORGANIZATION, PROJECT, World, make_world, spec


async def test_a_cluster_is_running_only_once_it_was_seen_ready(world: World) -> None:
    asked = await world.provisioner.create_cluster(NewCluster(PROJECT, "main", spec("2cu"), CLUSTER), ACTOR)
    before = await world.cluster()
    assert (before.state, before.observed, before.endpoint) == (State.CREATING, None, None)
    assert before.desired == spec("2cu")

    done = await world.finish(asked)
    after = await world.cluster()
    assert (done.state, after.state, after.job) == (JobState.SUCCEEDED, State.RUNNING, None)
    assert after.observed == after.desired == spec("2cu")
    assert after.observed_generation == after.generation == 1
    assert after.endpoint == "cluster-a:19530"
    assert world.held() == {CLUSTER: 2000}
    assert world.provider.announced[CLUSTER] == [State.CREATING, State.RUNNING]


async def test_a_whole_life(world: World) -> None:
    await world.create("1cu")
    provisioner = world.provisioner
    assert (await world.finish(await provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR))).state == "SUCCEEDED"
    assert (await world.cluster()).observed == spec("4cu")
    assert world.held() == {CLUSTER: 4000}

    await world.finish(await provisioner.suspend_cluster(CLUSTER, ACTOR))
    suspended = await world.cluster()
    assert (suspended.state, suspended.observed, suspended.endpoint) == (State.SUSPENDED, None, None)
    assert world.held() == {}
    assert world.provider.has_data(CLUSTER)

    await world.finish(await provisioner.resume_cluster(CLUSTER, ACTOR))
    assert (await world.cluster()).observed == spec("4cu")
    assert world.held() == {CLUSTER: 4000}

    await world.finish(await provisioner.delete_cluster(CLUSTER, ACTOR))
    assert (await world.cluster()).state is State.DELETED
    assert not world.provider.has_data(CLUSTER)
    assert world.held() == {}
    assert await provisioner.clusters() == []
    assert [cluster.id for cluster in await provisioner.clusters(deleted=True)] == [CLUSTER]


async def test_every_step_of_a_life_is_in_the_audit_log(world: World) -> None:
    await world.create()
    await world.finish(await world.provisioner.suspend_cluster(CLUSTER, "anna"))
    audit = AuditLog(world.database, world.clock)
    events = [(event.actor, event.action, event.subject) for event in audit.events()]
    assert events == [
        (ACTOR, "organization.create", ORGANIZATION),
        (ACTOR, "project.create", PROJECT),
        (ACTOR, "cluster.create", CLUSTER),
        (ACTOR, "cluster.create.succeeded", CLUSTER),
        ("anna", "cluster.suspend", CLUSTER),
        ("anna", "cluster.suspend.succeeded", CLUSTER),
    ]
    assert audit.verify() == []


async def test_a_refused_create_leaves_nothing(world: World) -> None:
    with pytest.raises(OverCapacity, match="12 vCPU of 8 licensed"):
        await world.create("12cu")
    with pytest.raises(Unknown):
        await world.provisioner.cluster(CLUSTER)
    assert world.held() == {}
    assert [event.action for event in AuditLog(world.database, world.clock).events()] == [
        "organization.create",
        "project.create",
    ]


async def test_a_scale_over_the_licence_changes_nothing(world: World) -> None:
    await world.create("6cu")
    before = await world.cluster()
    with pytest.raises(OverCapacity):
        await world.provisioner.scale_cluster(CLUSTER, spec("12cu"), ACTOR)
    assert await world.cluster() == before
    assert world.held() == {CLUSTER: 6000}


async def test_while_it_scales_down_the_larger_of_both_is_held(world: World) -> None:
    await world.create("6cu")
    asked = await world.provisioner.scale_cluster(CLUSTER, spec("2cu"), ACTOR)
    assert world.held() == {CLUSTER: 6000}, "the old server still runs"
    await world.finish(asked)
    assert world.held() == {CLUSTER: 2000}


async def test_a_suspended_cluster_gives_its_capacity_to_another_and_may_not_come_back(world: World) -> None:
    await world.create("6cu")
    await world.finish(await world.provisioner.suspend_cluster(CLUSTER, ACTOR))
    await world.create("6cu", ClusterId("cluster-b"))
    with pytest.raises(OverCapacity):
        await world.provisioner.resume_cluster(CLUSTER, ACTOR)
    assert (await world.cluster()).state is State.SUSPENDED


async def test_concurrent_scale_ups_that_do_not_fit_together_are_not_both_admitted(world: World) -> None:
    names = [ClusterId(f"cluster-{letter}") for letter in "abcd"]
    for name in names:
        await world.create("1cu", name)  # 4 of 8 vCPU; each scale to 4cu needs 3 more
    asks = (world.provisioner.scale_cluster(name, spec("4cu"), ACTOR) for name in names)
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(answer, OverCapacity) for answer in answers) == 3
    assert sum(world.held().values()) == 7000


async def test_one_operation_at_a_time(world: World) -> None:
    await world.create()
    await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR)
    with pytest.raises(OperationRunning, match="must end first"):
        await world.provisioner.delete_cluster(CLUSTER, ACTOR)


async def test_an_operation_that_the_state_does_not_admit_says_what_it_does(world: World) -> None:
    await world.create()
    with pytest.raises(IllegalTransition, match="delete, lost, scale, suspend"):
        await world.provisioner.resume_cluster(CLUSTER, ACTOR)


async def test_a_decision_by_an_old_generation_is_refused(world: World) -> None:
    await world.create()
    await world.finish(await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR, generation=1))
    with pytest.raises(StaleGeneration, match="at generation 2, not 1"):
        await world.provisioner.scale_cluster(CLUSTER, spec("6cu"), ACTOR, generation=1)


async def test_a_scale_to_what_it_is_already_is_refused(world: World) -> None:
    await world.create("2cu")
    with pytest.raises(Conflict, match="already"):
        await world.provisioner.scale_cluster(CLUSTER, spec("2cu"), ACTOR)


async def test_names_are_unique_among_the_living(world: World) -> None:
    await world.create()
    with pytest.raises(NameTaken):
        await world.provisioner.create_organization("acme", ACTOR)
    with pytest.raises(NameTaken):
        await world.provisioner.create_project(ORGANIZATION, "one", ACTOR)
    new = NewCluster(PROJECT, "cluster-a", spec("1cu"))
    with pytest.raises(NameTaken):
        await world.provisioner.create_cluster(new, ACTOR)
    await world.finish(await world.provisioner.delete_cluster(CLUSTER, ACTOR))
    assert (await world.finish(await world.provisioner.create_cluster(new, ACTOR))).state == "SUCCEEDED"


async def test_unknown_owners_and_ill_formed_names_are_refused(world: World) -> None:
    with pytest.raises(Unknown, match="project"):
        await world.provisioner.create_cluster(NewCluster(ProjectId("nowhere"), "main", spec("1cu")), ACTOR)
    with pytest.raises(InvalidInput, match="1 to 32"):
        await world.provisioner.create_cluster(NewCluster(PROJECT, "x" * 33, spec("1cu")), ACTOR)
    with pytest.raises(InvalidInput, match="cluster"):
        await world.provisioner.create_cluster(NewCluster(PROJECT, "x", spec("1cu"), ClusterId("../x")), ACTOR)


async def test_a_passing_fault_is_tried_again(world: World) -> None:
    world.provider.faults = {"start": [Retry("no answer"), Retry("no answer")], "announce": [Retry("busy")]}
    assert (await world.create()).state is JobState.SUCCEEDED
    assert world.provider.calls["start"] == 3
    assert world.provider.calls["boot"] == 1


async def test_a_create_that_fails_leaves_failed_with_the_reason_and_no_capacity(world: World) -> None:
    world.provider.faults = {"start": [Refuse("no such version")]}
    job = await world.create()
    cluster = await world.cluster()
    assert (job.state, cluster.state, cluster.reason) == (JobState.FAILED, State.FAILED, "no such version")
    assert world.held() == {}
    assert world.provider.announced[CLUSTER][-1] is State.FAILED

    assert (await world.finish(await world.provisioner.resume_cluster(CLUSTER, ACTOR))).state == "SUCCEEDED"
    assert (await world.cluster()).reason is None
    assert world.held() == {CLUSTER: 2000}


async def test_a_server_that_never_is_ready_fails_the_create_at_its_deadline(world: World) -> None:
    world.provider.never_ready = {"2cu"}
    before = world.clock.monotonic()
    job = await world.create("2cu")
    assert job.reason is not None
    assert "not ready within 30 s" in job.reason
    assert 30 <= world.clock.monotonic() - before < 45
    assert not world.provider.runs(CLUSTER), "what is not usable must not run on"
    assert world.held() == {}


async def test_a_scale_that_fails_goes_back_to_the_former_allocation(world: World) -> None:
    await world.create("2cu")
    world.provider.never_ready = {"4cu"}
    job = await world.finish(await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR))
    cluster = await world.cluster()
    assert (job.state, cluster.state) == (JobState.FAILED, State.RUNNING)
    assert cluster.observed == cluster.desired == spec("2cu")
    assert cluster.reason == job.reason
    assert not cluster.has_drifted
    assert world.held() == {CLUSTER: 2000}


async def test_a_scale_that_fails_twice_leaves_failed_and_nothing_running(world: World) -> None:
    await world.create("2cu")
    world.provider.never_ready = {"2cu", "4cu"}
    job = await world.finish(await world.provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR))
    assert job.reason is not None
    assert "going back failed" in job.reason
    assert (await world.cluster()).state is State.FAILED
    assert not world.provider.runs(CLUSTER)
    assert world.held() == {}


async def test_a_suspend_that_fails_leaves_it_running(world: World) -> None:
    await world.create("2cu")
    world.provider.faults = {"stop": [Retry("it does not end")] * 4}
    job = await world.finish(await world.provisioner.suspend_cluster(CLUSTER, ACTOR))
    assert (job.state, job.reason) == (JobState.FAILED, "it does not end (4 attempts)")
    assert (await world.cluster()).state is State.RUNNING
    assert world.held() == {CLUSTER: 2000}


async def test_a_resume_that_fails_leaves_it_suspended(world: World) -> None:
    await world.create("2cu")
    await world.finish(await world.provisioner.suspend_cluster(CLUSTER, ACTOR))
    world.provider.never_ready = {"2cu"}
    await world.finish(await world.provisioner.resume_cluster(CLUSTER, ACTOR))
    assert (await world.cluster()).state is State.SUSPENDED
    assert world.held() == {}


async def test_a_delete_that_fails_keeps_the_capacity_of_what_still_runs(world: World) -> None:
    await world.create("2cu")
    world.provider.faults = {"remove": [Retry("it does not end")] * 4}
    await world.finish(await world.provisioner.delete_cluster(CLUSTER, ACTOR))
    assert (await world.cluster()).state is State.FAILED
    assert world.held() == {CLUSTER: 2000}
    assert (await world.finish(await world.provisioner.delete_cluster(CLUSTER, ACTOR))).state == "SUCCEEDED"
    assert world.held() == {}


async def test_a_server_that_dies_is_failed_gives_its_capacity_back_and_can_be_resumed(world: World) -> None:
    await world.create("2cu")
    assert await world.provisioner.observe() == []
    world.provider.die(CLUSTER)
    assert await world.provisioner.observe() == [CLUSTER]
    cluster = await world.cluster()
    assert cluster.state is State.FAILED
    assert cluster.reason is not None
    assert world.held() == {}
    assert world.provider.announced[CLUSTER][-1] is State.FAILED
    await world.finish(await world.provisioner.resume_cluster(CLUSTER, ACTOR))
    assert (await world.cluster()).state is State.RUNNING


async def test_a_defect_ends_the_job_with_a_reason(world: World) -> None:
    world.provider.faults = {"start": [ZeroDivisionError("x")]}  # type: ignore[list-item]
    job = await world.create()
    assert job.reason == "defect: ZeroDivisionError: x"
    assert (await world.cluster()).state is State.FAILED


async def test_a_job_that_nobody_runs_is_waited_for_no_longer_than_asked_and_reported_overdue(world: World) -> None:
    asked = await world.provisioner.create_cluster(NewCluster(PROJECT, "main", spec("1cu"), CLUSTER), ACTOR)
    waiting = asyncio.create_task(world.provisioner.wait(asked.id, 5))
    while not waiting.done():
        await world.clock.advance(0.5)
        await asyncio.wait({waiting}, timeout=0.001)
    with pytest.raises(JobUnfinished, match="QUEUED after 5 s"):
        await waiting
    assert await world.provisioner.overdue() == []
    await world.clock.advance(3600)
    assert [job.id for job in await world.provisioner.overdue()] == [asked.id]


async def test_without_a_limit_everything_is_admitted(database: Database) -> None:
    from provisioner.capacity import Unlimited

    world = await make_world(database, capacity=Unlimited())
    assert (await world.create("256cu")).state is JobState.SUCCEEDED


async def test_the_watch_goes_on_after_a_passing_fault(world: World) -> None:
    await world.create("1cu")
    world.provider.faults = {"observe": [Retry("no answer")]}
    world.provider.die(CLUSTER)
    watch = asyncio.create_task(world.provisioner.watch())
    while (await world.cluster()).state is State.RUNNING:
        assert not watch.done()
        await world.clock.advance(1)
    assert world.provider.faults == {"observe": []}
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


async def test_what_was_declared_over_a_life_is_kept_in_order(world: World) -> None:
    """Between asking and declaring, anything from nothing to the most that may run; then what was seen."""
    await world.create("1cu")
    provisioner = world.provisioner
    await world.finish(await provisioner.scale_cluster(CLUSTER, spec("4cu"), ACTOR))
    await world.finish(await provisioner.suspend_cluster(CLUSTER, ACTOR))
    await world.finish(await provisioner.resume_cluster(CLUSTER, ACTOR))
    world.provider.die(CLUSTER)
    assert await provisioner.observe() == [CLUSTER]
    await world.finish(await provisioner.delete_cluster(CLUSTER, ACTOR))

    kept = world.database.read(lambda connection: list_transitions(connection, ORGANIZATION))
    assert [(one.state, one.least_milli_vcpu, one.most_milli_vcpu) for one in kept] == [
        (State.CREATING, 0, 1000),
        (State.RUNNING, 1000, 1000),
        (State.MODIFYING, 0, 4000),
        (State.RUNNING, 4000, 4000),
        (State.SUSPENDING, 0, 4000),
        (State.SUSPENDED, 0, 0),
        (State.RESUMING, 0, 4000),
        (State.RUNNING, 4000, 4000),
        (State.FAILED, 0, 0),
        (State.DELETING, 0, 4000),
        (State.DELETED, 0, 0),
    ]
    assert [one.at_ms for one in kept] == sorted(one.at_ms for one in kept)
    for change in ("UPDATE provisioner_transitions SET at_ms = 0", "DELETE FROM provisioner_transitions"):
        with pytest.raises(DBAPIError, match="does not change"):
            await world.database.run(partial(execute, statement=change))


def execute(connection: sa.Connection, statement: str) -> None:
    connection.execute(sa.text(statement))
