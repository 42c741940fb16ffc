"""Where bodies are decoded: in threads of their own, which give way to the loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
from prometheus_client import CollectorRegistry

from kernel.clock import SystemClock
from kernel.log.memory import MemoryLog
from metering.gateway.intake import Intake, IntakeParts
from metering.gateway.metrics import GatewayMetrics
from metering.gateway.settings import GatewaySettings


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
async def test_a_body_is_decoded_behind_the_loop_and_behind_all_other_threads() -> None:
    clock = SystemClock()
    parts = IntakeParts(
        GatewaySettings(), await MemoryLog(clock).writer(), clock, GatewayMetrics(CollectorRegistry())
    )
    intake = Intake(parts)
    try:
        before = niceness()
        assert await intake.decode(niceness) == min(19, before + 5)
        assert await intake.decode(niceness) == min(19, before + 5)  # once for each thread
        assert await asyncio.to_thread(niceness) == before
        assert niceness() == before
    finally:
        await intake.close()
