"""The life of an alert, second by second. An evaluation sees the second that the watermark has passed."""

from __future__ import annotations

from itertools import product

import pytest

from alerts import models
from alerts.states import ANNOUNCED, TRANSITIONS, Observation, State
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Receiver
from tests.alerts.world import ORG_A, World, rules

ALLOWED = {
    State.INACTIVE: {State.INACTIVE, State.PENDING, State.FIRING},
    State.PENDING: {State.INACTIVE, State.PENDING, State.FIRING},
    State.FIRING: {State.FIRING, State.RESOLVED},
    State.RESOLVED: {State.PENDING, State.FIRING, State.RESOLVED},
}


def test_the_table_is_complete_and_a_firing_alert_is_never_just_forgotten() -> None:
    assert TRANSITIONS.keys() == set(product(State, Observation))
    for (state, _), after in TRANSITIONS.items():
        assert after in ALLOWED[state]
    steps = {(state, after) for (state, _), after in TRANSITIONS.items() if state is not after}
    assert {step for step in steps if State.FIRING in step} == ANNOUNCED


async def test_for_delays_firing_and_a_dip_starts_over(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world(rules(for_="5s"))
    await world.run(5, 35)
    assert world.states() == ["pending"]
    await world.run(2, 20)
    assert world.states() == []
    await world.run(6, 35)
    assert (world.states(), receiver.requests) == (["pending"], [])
    await world.run(2, 35)
    assert world.states() == ["firing"]
    assert len(receiver.taken) == 1


async def test_keep_firing_for_bridges_a_dip(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world(rules(keep="10s"))
    await world.run(3, 35)
    await world.run(8, 20)
    assert world.states() == ["firing"]
    await world.run(3, 35)
    assert world.rows(models.instances)[0]["kept_at_ms"] is None
    await world.run(9, 20)
    assert world.states() == ["firing"]
    assert len(receiver.requests) == 1
    await world.run(3, 20)
    assert world.states() == ["resolved"]
    assert len(receiver.taken) == 2


async def test_a_new_life_after_a_resolve_is_told_again(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    for value in (35, 20, 35, 20):
        await world.run(3, value)
    assert [request.body["status"] for request in receiver.taken] == ["firing", "resolved"] * 2
    starts = [request.body["alerts"][0]["startsAt"] for request in receiver.taken]
    assert starts[0] == starts[1] < starts[2] == starts[3]
    assert len({request.webhook_id for request in receiver.taken}) == 4


@pytest.mark.parametrize("seconds_down", [3, 10])
async def test_a_restart_keeps_the_time_an_alert_has_been_pending(
    make_world: MakeWorld, receiver: Receiver, seconds_down: int
) -> None:
    """The condition goes on while nobody evaluates; the samples wait in the log, and nothing starts over."""
    world = await make_world(rules(for_="30s"))
    await world.run(12, 35)
    [before] = world.rows(models.instances)
    await world.stop()
    for _ in range(seconds_down):
        await world.clock.advance(1)
        await world.send(35)
    await world.start()
    await world.run(1, 35)
    [after] = world.rows(models.instances)
    assert (after["state"], after["active_at_ms"]) == ("pending", before["active_at_ms"])
    await world.run(30 - 12 - seconds_down + 2, 35)
    assert world.states() == ["firing"]
    assert len(receiver.taken) == 1
    assert world.rows(models.instances)[0]["fired_at_ms"] == before["active_at_ms"] + 30_000


async def test_a_dip_during_the_restart_is_seen(make_world: MakeWorld) -> None:
    """What was missed is evaluated at its own time, from the log."""
    world = await make_world(rules(for_="30s"))
    await world.run(12, 35)
    [before] = world.rows(models.instances)
    await world.stop()
    for value in (35, 20, 20, 35, 35):
        await world.clock.advance(1)
        await world.send(value)
    await world.start()
    await world.run(2, 35)
    [after] = world.rows(models.instances)
    assert after["active_at_ms"] == before["active_at_ms"] + 14_000 + 1000


async def test_a_restart_keeps_keep_firing_for(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world(rules(keep="20s"))
    await world.run(3, 35)
    await world.run(10, 20)
    [before] = world.rows(models.instances)
    await world.stop()
    await world.start()
    await world.run(8, 20)
    [after] = world.rows(models.instances)
    assert (after["state"], after["kept_at_ms"]) == ("firing", before["kept_at_ms"])
    await world.run(5, 20)
    assert world.rows(models.instances)[0]["resolved_at_ms"] == before["kept_at_ms"] + 20_000


async def test_evaluation_waits_for_a_late_collector_but_not_for_ever(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    """The watermark stands still: for five seconds nothing is judged, then the clock decides."""
    world = await make_world()
    await world.run(3, 20)
    [before] = world.rows(models.progress)
    await world.run(4)
    [held] = world.rows(models.progress)
    assert held["evaluated_at_ms"] - before["evaluated_at_ms"] <= 1000
    await world.run(6)
    [after] = world.rows(models.progress)
    assert after["evaluated_at_ms"] >= held["evaluated_at_ms"] + 4000


async def test_samples_that_come_late_within_the_wait_are_judged_at_their_own_time(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    world = await make_world()
    await world.run(3, 20)
    await world.run(3)
    late_ms = world.clock.now_ms()
    await world.send(35)
    await world.turn()
    await world.run(2, 20)
    [instance] = world.rows(models.instances)
    assert late_ms - 1000 < instance["fired_at_ms"] - 1000 <= late_ms


async def test_a_rule_without_value_leaves_its_alerts_alone(make_world: MakeWorld, receiver: Receiver) -> None:
    """An error is not 'no': the alert neither resolves nor fires, and the error is stored."""
    text = rules().replace(
        "temperature > 30", "temperature > 30 and on(organization) (gate + on(organization) gate2)"
    )
    world = await make_world(text)
    for _ in range(3):
        await world.run(1, 35)
        await world.send(1, metric="gate")
        await world.send(1, metric="gate2")
    await world.run(1, 35)
    assert world.states() == ["firing"]
    for _ in range(3):
        await world.run(1, 35)
        await world.send(1, room="other", metric="gate2")
    await world.run(1, 20)
    assert world.states() == ["firing"]
    assert "more than one element" in world.rows(models.progress)[0]["errors"]


async def test_a_rule_that_was_removed_resolves_what_it_fired(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    await world.run(3, 35)
    await world.stop()
    text = rules().replace("name: test", "name: other").replace("> 30", "> 90")
    world.settings.rule_files[0].write_text(text)
    await world.start()
    await world.run(2, 20)
    assert world.states() == ["resolved"]
    assert receiver.taken[-1].statuses == [("resolved", "Hot")]


async def test_an_expression_that_changed_keeps_the_state(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    await world.run(3, 35)
    await world.stop()
    world.settings.rule_files[0].write_text(rules().replace("> 30", "> 33"))
    await world.start()
    await world.run(3, 35)
    assert world.states() == ["firing"]
    assert len(receiver.requests) == 1


async def test_two_rulers_tell_a_transition_once(make_world: MakeWorld, receiver: Receiver) -> None:
    """A zombie evaluates the same times on the same data; what is stored already it does not store again."""
    first = await make_world()
    second = await _twin(first)
    for _ in range(4):
        await first.clock.advance(1)
        await first.send(35)
        await first.turn()
        await second.turn()
    assert [row["kind"] for row in first.rows(models.outbox)] == ["firing"]
    assert len(receiver.requests) == 1
    await second.stop()


async def _twin(world: World) -> World:
    twin = object.__new__(World)
    twin.__dict__ = dict(world.__dict__)
    await twin.start()
    return twin


async def test_an_alert_of_a_rule_with_too_many_is_refused_whole(make_world: MakeWorld) -> None:
    world = await make_world()
    world.settings = world.settings.model_copy(update={"max_alerts_per_rule": 3})
    await world.stop()
    await world.start()
    for room in "abcde":
        await world.send(35, room=room, tenant=ORG_A)
    await world.run(2, 35, room="a")
    assert world.states() == []
    assert "max_alerts_per_rule" in world.rows(models.progress)[0]["errors"]
