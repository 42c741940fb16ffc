"""Duplicate and re-ordered pushes: what was stored stays stored once, whoever repeats it and in whatever order."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.chaos.length import LIMIT_SECONDS, SEED
from tests.chaos.program import until
from tests.chaos.replay import pushed_frames, send_again
from tests.chaos.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SECONDS)]


def test_every_push_again_in_any_order_while_new_ones_come(world: World) -> None:
    world.ensure_running()
    before = len(world.targets[0].pages)
    until("pages", lambda: len(world.targets[0].pages) >= before + 5)
    spool = world.collector_folder / "spool"
    until("pushes to repeat", lambda: len(pushed_frames(spool)) > 4)
    frames = pushed_frames(spool)
    dice, statuses = random.Random(SEED), Counter[int]()

    def as_many_were_taken_twice() -> bool:
        """What builds on another state than the gateway's is refused (409), so some rounds take more, some less."""
        nonlocal statuses
        statuses += send_again(world.gateway_url, world.collector_folder / "identity", frames, dice)
        return statuses[200] >= len(frames)

    until("as many pushes taken again as there were", as_many_were_taken_twice)
    assert statuses.keys() <= {200, 409}, statuses
    world.drained()
    world.expect_clean(after=f"every push twice or three times, shuffled: {statuses}")
