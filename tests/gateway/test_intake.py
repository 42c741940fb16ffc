"""Where bodies are decoded, and which are not even read: of a tenant that is over its rate."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
from prometheus_client import CollectorRegistry

from kernel.clock import SystemClock
from kernel.errors import SlowDown
from kernel.ids import OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from metering.gateway.answers import Busy
from metering.gateway.intake import Intake, IntakeParts
from metering.gateway.metrics import GatewayMetrics
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.gateway.tenants import Kind, TenantState
from tests.gateway.clocks import SkewedClock

LIMITS = TenantLimits(samples_per_second=10, burst_samples=100)


async def make_intake(clock: SystemClock) -> Intake:
    settings, writer = GatewaySettings(tenant=LIMITS), await MemoryLog(clock).writer()
    return Intake(IntakeParts(settings, writer, clock, GatewayMetrics(CollectorRegistry())))


def make_state(clock: SystemClock) -> TenantState:
    return TenantState(Tenant(OrganizationId("acme"), ProjectId("prod")), LIMITS, clock.monotonic())


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_a_body_is_decoded_behind_the_loop_and_behind_all_other_threads() -> None:
    intake = await make_intake(SystemClock())
    try:
        before = niceness()
        assert await intake.decode(niceness) == min(19, before + 5)
        assert await intake.decode(niceness) == min(19, before + 5)  # once for each thread
        assert await asyncio.to_thread(niceness) == before
        assert niceness() == before
    finally:
        await intake.close()


async def test_a_push_is_refused_unread_by_what_the_last_one_of_its_size_held() -> None:
    intake, state = await make_intake(clock := SkewedClock()), make_state(clock)
    await intake.append("byoc.live", (), state, cost=50)
    state.learn(Kind.REMOTE_WRITE, 60, 6000)
    with (
        pytest.raises(SlowDown, match="over the limit of 10 samples a second"),
        intake.expected(state, Kind.REMOTE_WRITE, 6000),
    ):
        raise AssertionError("50 are left of 100")
    with intake.expected(state, Kind.REMOTE_WRITE, 4000):  # 40 samples
        with pytest.raises(SlowDown), intake.expected(state, Kind.REMOTE_WRITE, 2000):
            raise AssertionError("those under way count")
        with intake.expected(state, Kind.FRAMES, 6000):  # nothing is known of these: one at least
            pass
    with intake.expected(state, Kind.REMOTE_WRITE, 4000):
        pass


def test_a_larger_push_than_the_last_is_guessed_to_hold_as_much() -> None:
    """Else a body with many labels would wait for room that its samples do not need."""
    state = make_state(SkewedClock())
    assert state.guess(Kind.FRAMES, 1000) == 1
    state.learn(Kind.FRAMES, 500, 1000)
    assert [state.guess(Kind.FRAMES, size) for size in (10, 1000, 1_000_000, None)] == [5, 500, 500, 500]
    state.learn(Kind.FRAMES, 300, None)
    assert [state.guess(Kind.FRAMES, size) for size in (10, None)] == [300, 300]


async def test_what_was_decoded_is_kept_and_what_it_lacks_is_a_debt() -> None:
    intake, state = await make_intake(clock := SkewedClock()), make_state(clock)
    await intake.append("byoc.live", (), state, cost=150)
    with pytest.raises(SlowDown) as refused:
        async with intake.decode_turn(state):
            raise AssertionError("nothing is left: a body that was read meanwhile is not decoded")
    assert refused.value.retry_after_seconds == pytest.approx(5.1, abs=0.2)


async def test_refusals_of_a_tenant_go_out_one_by_one() -> None:
    intake, state = await make_intake(clock := SkewedClock()), make_state(clock)
    await asyncio.gather(*(intake.hold_back(SlowDown("over", 5.0), state) for _ in range(300)))
    await intake.hold_back(Busy("no turn", 2.0), state)
    assert clock.slept[:3] == pytest.approx([1.0, 1.1, 1.2], abs=0.05)
    assert max(clock.slept) == pytest.approx(20.0, abs=0.05), "no sender waits longer for an answer"
    assert len(clock.slept) == 300
