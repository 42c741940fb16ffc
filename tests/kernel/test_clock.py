"""The virtual clock wakes sleepers in order, at their own time."""

import asyncio
from datetime import UTC, datetime

import pytest

from kernel.clock import Clock, SystemClock, VirtualClock, from_ms


async def test_sleepers_wake_in_order_at_their_time() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    sleepers = [("late", 5), ("early", 1), ("same", 1), ("never", 100)]
    tasks = [asyncio.create_task(sleeper(*each)) for each in sleepers]
    await clock.advance(10)
    assert woken == [("early", 1.0), ("same", 1.0), ("late", 5.0)]
    assert clock.monotonic() == 10.0
    tasks[3].cancel()


async def test_a_sleeper_that_sleeps_again_is_woken_within_one_advance() -> None:
    clock = VirtualClock()
    ticks: list[int] = []

    async def ticking() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.now_ms())

    task = asyncio.create_task(ticking())
    start = clock.now_ms()
    await clock.advance(3.5)
    assert ticks == [start + 1000, start + 2000, start + 3000]
    task.cancel()


async def test_a_cancelled_sleeper_holds_nothing_up() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    await clock.advance(2)
    assert task.cancelled()


def test_a_step_of_the_wall_leaves_monotonic_time() -> None:
    clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.step_wall(-60)
    assert clock.now() == datetime(2026, 2, 28, 23, 59, tzinfo=UTC)
    assert clock.monotonic() == 0


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()])
async def test_a_sleep_of_nothing_yields(clock: Clock) -> None:
    other = asyncio.create_task(asyncio.sleep(0))
    await clock.sleep(0)
    await clock.sleep(-1)
    assert other.done()


def test_the_system_clock_is_aware_and_agrees_with_itself() -> None:
    clock = SystemClock()
    before, moment, after = clock.now_ms(), clock.now(), clock.now_ms()
    assert moment.tzinfo is UTC
    assert from_ms(before) <= moment
    assert moment.timestamp() * 1000 <= after + 1
