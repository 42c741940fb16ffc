"""The collector against the gateway that the vendor runs, a real process killed on the way."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from metering.record import LIVE_TOPIC, canonical_labels
from tests.collector.world import Page, run_target, static_job, until, write_config
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME, COLLECTOR

Stored = list[tuple[tuple[int, int, int], dict[bytes, float]]]


async def stored(world: GatewayWorld) -> Stored:
    """What the log holds: position, and value by series."""
    return [
        (
            (header.sequence.epoch, header.sequence.number, header.sequence.part),
            {canonical_labels(labels.items()): value for labels, _, value in rows},
        )
        for header, rows in await world.stored(LIVE_TOPIC)
        if header.sequence is not None
    ]


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
    page = Page(lambda number: b"# TYPE milvus_n counter\nmilvus_n %d\n" % number)
    async with gateway_world(tmp_path) as world, run_target(page) as port:
        (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
        (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
        config = write_config(tmp_path, world.url, scrape_configs=[static_job(port)])
        for place in ("spool.synced:4", "push.answered:4"):
            process = await start(config, BYOC_CRASH_AT=place)
            assert await asyncio.wait_for(process.wait(), 60) == -9
        process = await start(config)
        seen = page.scrapes
        await until(lambda: page.scrapes >= seen + 4, 60)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
        found = await stored(world)

    first: dict[tuple[int, int, int], dict[bytes, float]] = {}
    for position, values in found:
        assert repr(first.setdefault(position, values)) == repr(values)
    epochs = sorted({position[0] for position in first})
    assert len(epochs) == 3
    for epoch in epochs:
        numbers = sorted(position[1] for position in first if position[0] == epoch)
        assert numbers == list(range(1, len(numbers) + 1))
    numbers_seen = [
        value
        for _, rows in sorted(first.items())
        for series, value in rows.items()
        if b"milvus_n" in series and value == value  # noqa: PLR0124 - a stale marker is a NaN
    ]
    assert numbers_seen == sorted(set(numbers_seen))
    # A page fetched in the instant of a kill or of the stop was not synced, and no other may be missing.
    assert len(set(range(1, page.scrapes + 1)) - {int(value) for value in numbers_seen}) <= 3
