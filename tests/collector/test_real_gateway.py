"""The collector against the gateway that the vendor runs, a real process killed on the way."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from console.demo.witness import Row
from metering.record import LIVE_TOPIC
from tests.chaos.judge import judge
from tests.chaos.target import Target
from tests.collector.world import until, write_config
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME, COLLECTOR

Position = tuple[str, int, int, int]
POLICY = {"allow": [{"metrics": ["up", "chaos_*"], "labels": ["*"], "pseudonyms": []}]}


@contextmanager
def remembering_target() -> Iterator[Target]:
    target = Target()
    try:
        yield target
    finally:
        target.close()


async def stored(world: GatewayWorld) -> tuple[dict[Position, list[Row]], int]:
    """What the log holds by position, the same each time it came; and what it is complete through, in ms."""
    first: dict[Position, list[Row]] = {}
    through_ms: dict[str, int] = {}
    for header, found in await world.stored(LIVE_TOPIC):
        assert header.sequence is not None
        sequence, lane = header.sequence, header.lane.value
        position = lane, sequence.epoch, sequence.number, sequence.part
        rows = [(tuple(sorted(labels.items())), at_ms, value) for labels, at_ms, value in found]
        assert repr(first.setdefault(position, rows)) == repr(rows)
        through_ms[lane] = max(through_ms.get(lane, 0), header.complete_through_ms or 0)
    return first, min(through_ms.values())


async def start(config: Path, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "collector",
        "run",
        "-c",
        str(config),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )


@pytest.mark.slow
async def test_a_collector_that_is_killed_twice_loses_no_scrape_that_was_synced(tmp_path: Path) -> None:
    async with gateway_world(tmp_path) as world:
        with remembering_target() as target:
            (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
            (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
            job = {"job_name": "chaos", "static_configs": [{"targets": [target.instance]}]}
            config = write_config(tmp_path, world.url, scrape_configs=[job], policy=POLICY)
            process = await start(config, BYOC_CRASH_AT="spool.synced:4")
            assert await asyncio.wait_for(process.wait(), 60) == -9
            assert target.pages  # the last of them was just synced, so none is excused
            process = await start(config, BYOC_CRASH_AT="push.answered:4")
            assert await asyncio.wait_for(process.wait(), 60) == -9
            while_pushing = target.pages[
                -1
            ]  # handed out, perhaps not synced when the other task killed the process
            process = await start(config)
            seen = len(target.pages)
            await until(lambda: len(target.pages) >= seen + 4, 60)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 30) == 0
            at_the_stop = target.pages[-1]  # a page that is being fetched then is given up
        first, through_ms = await stored(world)

    boots = sorted({position[:2] for position in first})
    assert len(boots) == 3 * 2  # of each lane
    for boot in boots:
        numbers = sorted(position[2] for position in first if position[:2] == boot)
        assert numbers == list(range(1, len(numbers) + 1))
    rows = [row for _, found in sorted(first.items()) for row in found]
    assert through_ms >= at_the_stop.served_ms - 200
    verdict = judge(rows, target.pages, through_ms, unsettled=[while_pushing, at_the_stop])
    assert verdict.is_clean, verdict
    assert verdict.stored >= 5 * len(target.pages[0].samples)
