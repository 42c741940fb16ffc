"""Senders whose clock is ahead: what will be good later is asked for later, not refused for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.wire.headers import PushHeaders, PushLane
from kernel.clock import SystemClock
from metering.record import Lane
from tests.gateway.clocks import SkewedClock
from tests.gateway.messages import Rows
from tests.gateway.world import GatewayWorld, Sender, gateway_world

UP = (("__name__", "up"), ("job", "milvus"))
HOUR = 3600
PUSH = PushHeaders(epoch=7, sequence=3)


@pytest.fixture
def clock() -> SkewedClock:
    return SkewedClock()


@pytest.fixture
async def world(tmp_path: Path, clock: SkewedClock) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(tmp_path, clock=clock) as made:
        yield made


def rows(*ahead_seconds: float) -> Rows:
    now = SystemClock().now_ms()
    return [(UP, [(now + round(seconds * 1000), 1.0) for seconds in ahead_seconds])]


@pytest.mark.parametrize("ahead_seconds", [HOUR, 14 * HOUR])
@pytest.mark.parametrize("lane", PushLane)
async def test_a_push_of_ours_from_the_near_future_is_taken_when_its_time_has_come(
    world: GatewayWorld, sender: Sender, clock: SkewedClock, ahead_seconds: int, lane: PushLane
) -> None:
    push = PushHeaders(epoch=7, sequence=3, lane=lane)
    sent = rows(0, ahead_seconds)
    early = await sender.write(sent, push)
    assert (early.status, early.written) == (429, ("0", "0", "0"))
    assert 1 <= int(early.headers["Retry-After"]) <= 300
    assert "check the clock" in early.text
    assert await world.stored(Lane(lane).topic) == []
    clock.ahead_seconds = ahead_seconds - 590
    assert (await sender.write(sent, push)).status == 200


async def test_retry_after_says_when_that_is(world: GatewayWorld, sender: Sender) -> None:
    answer = await sender.write(rows(600 + 60), PUSH)
    assert 55 <= int(answer.headers["Retry-After"]) <= 91  # up to half as long again, so that senders spread


async def test_within_the_allowance_nothing_waits(world: GatewayWorld, sender: Sender) -> None:
    assert (await sender.write(rows(590), PUSH)).status == 200


async def test_from_the_far_future_is_refused_so_that_a_lane_is_not_held_up_for_years(
    world: GatewayWorld, sender: Sender
) -> None:
    answer = await sender.write(rows(HOUR, 30 * HOUR), PUSH)
    assert (answer.status, answer.written[0]) == (400, "0")
    assert "timestamp_too_new: 2" in answer.text


async def test_a_foreign_sender_would_drop_the_rest_too_so_it_is_told_at_once(
    world: GatewayWorld, sender: Sender
) -> None:
    answer = await sender.write(rows(0, HOUR))
    assert (answer.status, answer.written[0]) == (400, "1")


async def test_a_series_that_is_refused_anyway_makes_nobody_wait(world: GatewayWorld, sender: Sender) -> None:
    nameless = [((("job", "x"),), rows(HOUR)[0][1])]
    answer = await sender.write([*rows(0), *nameless], PUSH)
    assert (answer.status, "no_metric_name: 1" in answer.text) == (400, True)
