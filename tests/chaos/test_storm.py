"""`kill -9` at random moments, of whoever comes up, again and again; then everything that was handed out is there.

`make chaos` runs it ten times as long; CHAOS_SEED draws other moments.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.conftest import SCALE_OUT
from tests.chaos.length import IS_LONG, OUTAGE_SECONDS, PATIENCE_SECONDS, SEED, STORM_ROUNDS
from tests.chaos.program import until
from tests.chaos.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if IS_LONG else 300)]


def pause(world: World, most_ms: int, dice: random.Random) -> None:
    deadline = world.now_ms() + dice.randint(0, most_ms)
    until("the moment", lambda: world.now_ms() >= deadline)


def test_a_storm_of_kills(world: World) -> None:
    """The collector, the vendor's process (gateway, lake writer and all), and the broker where there is one."""
    world.ensure_running()
    dice, broker = random.Random(SEED), world.storage.servers.get("kafka")
    victims = ["collector", "vendor", "both", *(["broker"] if broker else [])]
    for _ in range(STORM_ROUNDS):
        pause(world, 2500, dice)
        victim = dice.choice(victims)
        if victim in ("collector", "both"):
            world.kill_collector()
        if victim in ("vendor", "both"):
            world.vendor.kill()
        if victim == "broker" and broker:
            broker.kill()
        pause(world, 2500, dice)
        if victim == "broker" and broker:
            broker.start()
        for program in (world.vendor, world.collector):
            if not program.runs:
                program.start()
    world.drained(PATIENCE_SECONDS)
    world.expect_clean(after=f"{STORM_ROUNDS} kills with the seed {SEED}")


@pytest.mark.parametrize("storage", [SCALE_OUT], indirect=True)
def test_a_broker_that_is_down_for_long(world: World) -> None:
    """Ten minutes in `make chaos`. What was scraped meanwhile waits on the collector's disk."""
    world.ensure_running()
    broker = world.storage.servers["kafka"]
    broker.kill()
    back_ms = world.now_ms() + OUTAGE_SECONDS * 1000
    until("the end of the outage", lambda: world.now_ms() >= back_ms, OUTAGE_SECONDS + 60)
    broker.start()
    world.drained(PATIENCE_SECONDS)
    world.expect_clean(after="a broker that was down")
