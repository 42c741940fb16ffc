"""`kill -9` at random moments, of whoever comes up, again and again; then everything that was handed out is there.

`make chaos` runs it ten times as long; CHAOS_SEED draws other moments.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import SCALE_OUT
from tests.chaos.length import IS_LONG, LIMIT_SECONDS, OUTAGE_SECONDS, PATIENCE_SECONDS, SEED, STORM_ROUNDS
from tests.chaos.program import until
from tests.chaos.storage import Storage
from tests.chaos.world import APART, World, open_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if IS_LONG else LIMIT_SECONDS)]


# Where a program may die when it comes up again: each step between two promises, and how often it is passed first.
STEPS = {
    "gateway": ["gateway.checked", "gateway.appended"],
    "lake": [
        "lake.refusals-appended",
        "lake.files-written",
        "lake.series-committed",
        "lake.horizon-stored",
        "lake.samples-committed",
        "lake.group-committed",
    ],
    "collector": [
        "spool.half_written",
        "spool.written",
        "spool.synced",
        "spool.acknowledged",
        "push.receipt_kept",
        "push.answered",
        "push.counted",
    ],
}
MOST_PASSES = 2
DOOMED_MS = 5000  # so long a round waits for those that are to die by themselves


@pytest.fixture(scope="module")
def world(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("apart"), storage, parts=APART) as opened:
        yield opened


def pause(world: World, most_ms: int, dice: random.Random) -> None:
    deadline = world.now_ms() + dice.randint(0, most_ms)
    until("the moment", lambda: world.now_ms() >= deadline)


def kill(world: World, victim: str) -> None:
    if victim == "collector":
        world.kill_collector()
    elif victim in world.parts:
        world.parts[victim].kill()
    else:
        world.storage.servers[victim].kill()


def revive(world: World, dice: random.Random) -> None:
    """Whoever is down comes up; one in two is to die at one of its steps."""
    for name, program in world.programs.items():
        if program.runs:
            continue
        if name == "collector":
            world.kill_collector()  # it may have died by itself
        step = f"{dice.choice(STEPS[name])}:{dice.randint(1, MOST_PASSES)}" if name in STEPS else ""
        program.start(crash_at=step if dice.random() < 0.5 else "")


def await_deaths(world: World) -> None:
    """Until nobody is left who is to die at a step, or not so soon."""
    deadline = world.now_ms() + DOOMED_MS
    until(
        "deaths",
        lambda: world.now_ms() > deadline or not any(one.is_doomed and one.runs for one in world.programs.values()),
    )


def test_a_storm_of_kills(world: World) -> None:
    """The collector, the gateway, the lake writer and the rest, each a process, and the broker where there is one.

    At random moments, two at once now and then, and at each step that they were told to die at.
    """
    world.ensure_running()
    dice = random.Random(SEED)
    victims = [*world.programs, *(["kafka"] if "kafka" in world.storage.servers else [])]
    for _ in range(STORM_ROUNDS):
        pause(world, 2500, dice)
        chosen = dice.sample(victims, dice.choice((1, 1, 2)))
        for victim in chosen:
            kill(world, victim)
        pause(world, 2500, dice)
        for server in set(chosen) & world.storage.servers.keys():
            world.storage.servers[server].start()
        revive(world, dice)
        await_deaths(world)
    world.calm()
    world.drained()
    world.expect_clean(after=f"{STORM_ROUNDS} rounds with the seed {SEED}, deaths at steps: {world.deaths()}")


@pytest.mark.parametrize("storage", [SCALE_OUT], indirect=True)
def test_a_broker_that_is_down_for_long(world: World) -> None:
    """Ten minutes in `make chaos`. What was scraped meanwhile waits on the collector's disk."""
    world.ensure_running()
    broker = world.storage.servers["kafka"]
    broker.kill()
    back_ms = world.now_ms() + OUTAGE_SECONDS * 1000
    until("the end of the outage", lambda: world.now_ms() >= back_ms, OUTAGE_SECONDS + 60)
    broker.start()
    # A push for each that waits: on a busy machine that is more than a second for a second.
    world.drained(PATIENCE_SECONDS + 2 * OUTAGE_SECONDS)
    world.expect_clean(after="a broker that was down")
