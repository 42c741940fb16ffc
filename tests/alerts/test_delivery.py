"""Delivery: order, patience, and who is told when one receiver is not there."""

from __future__ import annotations

from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from alerts import models
from alerts.ledger import enable_receiver
from alerts.retries import DELAYS_SECONDS, Outcome, classify, delay_ms, parse_retry_after
from kernel.clock import from_ms
from tests.alerts.conftest import MakeWorld
from tests.alerts.receiver import Answer, Receiver
from tests.alerts.world import ORG_B, World, receiver_settings


def gaps_seconds(world: World) -> list[float]:
    times = [row["started_ms"] for row in world.rows(models.attempts)]
    return [(after - before) / 1000 for before, after in pairwise(times)]


async def test_tries_are_dense_in_the_first_minute(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    receiver.answer = lambda: Answer(400)
    await world.run(110, 35)
    gaps = gaps_seconds(world)
    assert len(gaps) >= 6
    for gap, planned in zip(gaps, DELAYS_SECONDS[1:], strict=False):
        assert planned <= gap <= planned * 1.2 + 1


async def test_retry_after_is_honoured(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    answers = iter([Answer(429, {"Retry-After": "17"})])
    receiver.answer = lambda: next(answers, Answer())
    await world.run(16, 35)
    assert len(receiver.requests) == 1
    await world.run(5, 35)
    assert len(receiver.taken) == 1


async def test_new_changes_do_not_pass_by_retry_after(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    answers = iter([Answer(503, {"Retry-After": "20"})])
    receiver.answer = lambda: next(answers, Answer())
    await world.run(5, 35)
    await world.run(5, 20)
    assert len(receiver.requests) == 1
    await world.run(15, 20)
    [request] = receiver.taken
    assert request.body["status"] == "resolved"


async def test_a_breaker_leaves_one_try_at_a_time(make_world: MakeWorld, receiver: Receiver) -> None:
    """Twelve groups wait for a dead receiver; it does not get twelve tries each second."""
    rules = "groups:\n  - name: test\n    interval: 1s\n    rules:\n" + "".join(
        f"      - {{alert: Hot{index}, expr: temperature > {index}}}\n" for index in range(12)
    )
    world = await make_world(rules)
    receiver.answer = lambda: Answer(503)
    await world.run(60, 35, every=2)
    assert len(receiver.requests) <= 5 + 60 / 20 + 1
    receiver.answer = Answer
    await world.run(26, 35, every=2)
    assert {request.statuses[0][1] for request in receiver.taken} == {f"Hot{index}" for index in range(12)}


async def test_gone_disables_the_receiver_and_tells_the_fallback(make_world: MakeWorld, receiver: Receiver) -> None:
    other = await Receiver().start()
    world = await make_world(
        receivers=[
            receiver_settings(receiver, fallback="second"),
            receiver_settings(other, "second", only_as_fallback=True),
        ]
    )
    receiver.answer = lambda: Answer(410)
    await world.run(5, 35)
    await world.run(5, 20)
    assert len(receiver.requests) == 1
    assert [request.body["status"] for request in other.taken] == ["firing", "resolved"]
    assert all(request.body["receiver"] == "second" for request in other.taken)
    receiver.answer = Answer
    assert world.database.transact(lambda connection: enable_receiver(connection, "oncall"))
    await world.run(3, 20)
    [request] = receiver.taken
    assert request.body["status"] == "resolved"
    await other.stop()


@pytest.mark.parametrize("limit", [{"fallback_after_attempts": 3}, {"fallback_after_seconds": 3}])
async def test_the_fallback_is_told_once_and_the_first_goes_on_trying(
    make_world: MakeWorld, receiver: Receiver, limit: dict[str, Any]
) -> None:
    other = await Receiver().start()
    world = await make_world(
        receivers=[
            receiver_settings(receiver, fallback="second", **limit),
            receiver_settings(other, "second", only_as_fallback=True),
        ]
    )
    receiver.answer = lambda: Answer(500)
    await world.run(30, 35)
    assert len(other.taken) == 1
    receiver.answer = Answer
    await world.run(40, 35, every=5)
    assert len(receiver.taken) == 1
    assert len(other.taken) == 1
    await other.stop()


async def test_a_dead_receiver_keeps_no_other_waiting(make_world: MakeWorld, receiver: Receiver) -> None:
    dead = await Receiver().start()
    await dead.stop()
    world = await make_world(receivers=[receiver_settings(dead, "dead"), receiver_settings(receiver, "alive")])
    await world.run(3, 35)
    assert len(receiver.taken) == 1
    outcomes = {row["receiver"]: row["outcome"] for row in world.rows(models.attempts)}
    assert outcomes == {"dead": "unavailable", "alive": "delivered"}


async def test_receivers_get_what_their_matchers_ask_for(make_world: MakeWorld, receiver: Receiver) -> None:
    other = await Receiver().start()
    world = await make_world(
        receivers=[
            receiver_settings(receiver, matchers={"organization": "org-a", "severity": "critical"}),
            receiver_settings(other, "other", matchers={"severity": "warning"}),
        ]
    )
    await world.send(35, tenant=ORG_B)
    await world.run(3, 35)
    [request] = receiver.taken
    assert request.body["groupLabels"]["organization"] == "org-a"
    assert other.requests == []
    await other.stop()


async def test_a_group_tells_what_still_fires_beside_what_changed(
    make_world: MakeWorld, receiver: Receiver
) -> None:
    """As Alertmanager does: the group's status is resolved only when all of it is."""
    world = await make_world()
    for _ in range(2):
        await world.run(1, 35, room="attic")
        await world.send(35, room="cellar")
    await world.run(1, 35)
    for _ in range(3):
        await world.run(1, 20, room="attic")
        await world.send(35, room="cellar")
    last = receiver.taken[-1].body
    assert last["status"] == "firing"
    assert {alert["labels"]["room"]: alert["status"] for alert in last["alerts"]} == {
        "attic": "resolved",
        "cellar": "firing",
    }
    assert "room" not in last["commonLabels"]


async def test_a_crowd_comes_in_several_requests(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world(receivers=[receiver_settings(receiver, max_alerts=10)])
    for room in range(35):
        await world.send(35, room=f"room-{room}")
    await world.run(2, 35, room="room-0")
    told = [alert["labels"]["room"] for request in receiver.taken for alert in request.body["alerts"]]
    assert set(told) == {f"room-{room}" for room in range(35)}
    assert all(len(request.body["alerts"]) <= 10 for request in receiver.taken)
    assert receiver.taken[0].body["truncatedAlerts"] == 25


async def test_what_nobody_takes_is_given_up_at_last_and_counted(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    world.settings = world.settings.model_copy(update={"give_up_hours": 0.01})
    await world.stop()
    await world.start()
    receiver.answer = lambda: Answer(500)
    await world.run(110, 35, every=10)
    assert [row["settled_by"] for row in world.rows(models.outbox)] == ["expired"]
    receiver.answer = Answer
    await world.run(30, 35, every=10)
    assert receiver.taken == []


async def test_every_attempt_is_in_the_log(make_world: MakeWorld, receiver: Receiver) -> None:
    world = await make_world()
    answers = iter([Answer(500, text="out of\norder"), Answer(302, {"Location": receiver.url}), Answer(200)])
    receiver.answer = lambda: next(answers, Answer())
    await world.run(10, 35)
    logged = [(row["outcome"], row["status"], row["detail"]) for row in world.rows(models.attempts)]
    assert logged == [("unavailable", 500, "out of?order"), ("rejected", 302, ""), ("delivered", 200, "")]
    assert len({row["webhook_id"] for row in world.rows(models.attempts)}) == 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (299, Outcome.DELIVERED),
        (301, Outcome.REJECTED),
        (404, Outcome.REJECTED),
        (410, Outcome.GONE),
        (429, Outcome.THROTTLED),
        (502, Outcome.UNAVAILABLE),
    ],
)
def test_only_a_2xx_is_a_delivery(status: int, outcome: Outcome) -> None:
    assert classify(status, has_retry_after=False) is outcome


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    now_ms = 1_767_225_600_000
    date = format_datetime(from_ms(now_ms + 30_000), usegmt=True)
    assert parse_retry_after("7", now_ms, 60_000) == 7000
    assert parse_retry_after(date, now_ms, 60_000) == 30_000
    assert parse_retry_after("999999999999", now_ms, 60_000) == 60_000
    for nonsense in ("", "soon", "-5", "1.5", "٣"):
        assert parse_retry_after(nonsense, now_ms, 60_000) is None


def test_the_delays_end_at_five_minutes() -> None:
    assert 300_000 <= delay_ms(1000) <= 360_000
