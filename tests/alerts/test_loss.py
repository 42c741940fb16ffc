"""Four ways in which Alertmanager 0.25 and 0.34 lose or double a page, and what happens here."""

from __future__ import annotations

from alerts import models
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Answer, Receiver
from tests.alerts.world import World


def down(receiver: Receiver, status: int = 503, **headers: str) -> None:
    receiver.answer = lambda: Answer(status, headers)


def up(receiver: Receiver) -> None:
    receiver.answer = Answer


async def test_fired_and_resolved_while_the_receiver_was_down(make_world: MakeWorld, receiver: Receiver) -> None:
    """503 for 45 s; the alert fires at once and resolves after 15 s. (Alertmanager: nothing after recovery.)"""
    world = await make_world()
    down(receiver)
    await world.run(15, 35)
    await world.run(30, 20, every=2)
    assert receiver.taken == []
    up(receiver)
    await world.run(40, 20, every=5)
    [request] = receiver.taken
    [alert] = request.body["alerts"]
    assert (request.body["status"], alert["status"]) == ("resolved", "resolved")
    assert alert["startsAt"] < alert["endsAt"]
    assert alert["annotations"] == {"summary": "attic is at 35"}
    assert all(row["settled_by"] == request.webhook_id for row in world.rows(models.outbox))


async def test_a_throttled_page_follows_soon_after_recovery(make_world: MakeWorld, receiver: Receiver) -> None:
    """429 for 5 s. (Alertmanager: 56 s after recovery.)"""
    world = await make_world()
    down(receiver, 429)
    await world.run(5, 35)
    up(receiver)
    await world.run(10, 35)
    [request] = receiver.taken
    assert request.body["status"] == "firing"
    sent = [row["started_ms"] for row in world.rows(models.attempts)]
    assert sent[-1] - sent[0] <= 12_000


async def test_a_receiver_that_was_down_is_told_once(make_world: MakeWorld, receiver: Receiver) -> None:
    """503 for 14 s. (A pair of Alertmanagers: two firing notifications of one alert.)"""
    world = await make_world()
    down(receiver)
    await world.run(14, 35)
    up(receiver)
    await world.run(60, 35, every=5)
    assert [request.body["status"] for request in receiver.taken] == ["firing"]
    assert len({request.webhook_id for request in receiver.requests}) == 1
    assert len({request.raw for request in receiver.requests}) == 1


async def test_a_short_alert_is_told(make_world: MakeWorld, receiver: Receiver) -> None:
    """Fired and resolved within two seconds. (Alertmanager, inside group_wait: no notification.)"""
    world = await make_world()
    await world.run(2, 35)
    await world.run(5, 20)
    assert [request.body["status"] for request in receiver.taken] == ["firing", "resolved"]


async def test_a_short_alert_whose_changes_wait_together_is_told_once(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    world = await make_world()
    await _run_without_delivery(world, 2, 35)
    await _run_without_delivery(world, 4, 20)
    await world.deliver()
    [request] = receiver.taken
    assert [alert["status"] for alert in request.body["alerts"]] == ["resolved"]


async def _run_without_delivery(world: World, seconds: int, value: float) -> None:
    for _ in range(seconds):
        await world.clock.advance(1)
        await world.send(value)
        world.service.ruler.ingest(await world._reader.poll(100, 0))
        await world.service.ruler.tick()
