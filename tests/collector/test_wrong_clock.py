"""Clocks that are wrong, at the real gateway: nothing ends in the dead letters, and nobody else waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from collector.app import CollectorService
from collector.settings import load_collector_settings
from kernel.clock import SystemClock
from tests.collector.world import Page, run_target, static_job, until, write_config
from tests.gateway.clocks import SkewedClock
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME, COLLECTOR

HOUR = 3600


@asynccontextmanager
async def collecting(
    world: GatewayWorld, folder: Path, port: int, clock: SkewedClock
) -> AsyncIterator[CollectorService]:
    (folder / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
    (folder / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
    config = write_config(folder, world.url, scrape_configs=[static_job(port)])
    collector = CollectorService(load_collector_settings(config), clock)
    await collector.start()
    try:
        yield collector
    finally:
        await collector.service.shutdown()


async def stored_values(world: GatewayWorld, name: str) -> list[float]:
    return [value for _, rows in await world.stored() for labels, _, value in rows if labels["__name__"] == name]


async def test_a_collector_an_hour_ahead_keeps_all_until_the_gateway_gets_there(tmp_path: Path) -> None:
    gateways = SkewedClock()
    page = Page(lambda number: b"milvus_n %d\n" % number)
    async with gateway_world(tmp_path, clock=gateways) as world, run_target(page) as port:
        ahead = SkewedClock(HOUR)
        async with collecting(world, tmp_path, port, ahead) as collector:
            await until(lambda: page.scrapes >= 4 and max(ahead.slept) > 60)
            uploader = collector.shipping.uploader
            assert uploader is not None
            assert "check the clock of the collector" in (uploader.last_error or "")
            assert await world.stored() == []
            gateways.ahead_seconds = HOUR
            await collector.shipping.spool.drained()
            assert collector.shipping.dead_letters.load() == []
        values = await stored_values(world, "milvus_n")
    numbers = [int(value) for value in values if value == value]  # noqa: PLR0124 - the last is a stale marker
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 4


async def test_a_target_that_dates_its_samples_an_hour_ahead_is_told_of_and_holds_nobody_up(tmp_path: Path) -> None:
    def body(number: int) -> bytes:
        return b"milvus_ahead %d %d\nmilvus_n %d\n" % (number, SystemClock().now_ms() + HOUR * 1000, number)

    page = Page(body)
    with capture_logs() as logs:
        async with gateway_world(tmp_path) as world, run_target(page) as port:
            async with collecting(world, tmp_path, port, SkewedClock()) as collector:
                await until(lambda: page.scrapes >= 3)
                await collector.shipping.spool.drained()
                assert collector.shipping.dead_letters.load() == []
                too_new = collector.metrics.samples.labels("too_new")._value.get()
            assert (await stored_values(world, "milvus_n"))[:3] == [1.0, 2.0, 3.0]
            assert await stored_values(world, "milvus_ahead") == []
    assert too_new >= 3
    (warning,) = [one for one in logs if one["event"] == "samples_left_out"]
    assert (warning["log_level"], warning["samples"]) == ("warning", 1)
    assert "honor_timestamps: false" in warning["reason"]
