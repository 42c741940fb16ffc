"""The customer's clock steps an hour forward and back while samples flow: each is stored once, at its own time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.length import LIMIT_SECONDS
from tests.chaos.program import until
from tests.chaos.storage import EMBEDDED
from tests.chaos.world import World, open_world

HOUR = 3600
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("clocks"), EMBEDDED) as opened:
        yield opened


def pages(world: World, more: int) -> None:
    before = len(world.targets[0].pages)
    until(f"{more} pages", lambda: len(world.targets[0].pages) >= before + more)


def test_an_hour_forward_and_back(world: World) -> None:
    """Ahead, the gateway makes the collector wait for the time to come; it comes, and then the clock goes back."""
    world.ensure_running()
    pages(world, 3)
    world.clock.step_to(HOUR)
    pages(world, 3)
    until("the gateway to hold it up", lambda: "ahead of the gateway" in world.collector.said())
    world.vendor_clock.step_to(HOUR)
    world.kill_collector()  # it was told to wait for up to five minutes; who comes anew asks at once
    world.collector.start()
    pages(world, 3)
    world.clock.step_to(0)
    pages(world, 3)
    world.settled()
    world.expect_proof("clocks that step", {})


def test_an_hour_back_and_forward(world: World) -> None:
    world.ensure_running()
    pages(world, 3)
    world.clock.step_to(-HOUR)
    pages(world, 3)
    world.clock.step_to(0)
    pages(world, 3)
    world.settled()
    world.expect_proof("clocks that step", {})
