"""Senders that are not ours, as they are installed: Prometheus in agent mode, and vmagent."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from metering.gateway.settings import GatewaySettings, TenantLimits
from tests.gateway.world import Credentials, GatewayWorld, Row, gateway_world
from tests.identity.world import ACME, COLLECTOR
from tests.services.fixtures import StartPrometheus, StartVmagent

pytestmark = pytest.mark.services

TARGET = """# TYPE byoc_component_allocated_vcpu gauge
byoc_component_allocated_vcpu{cluster="c1",component="query",organization="someone-else"} 4.5
byoc_component_allocated_vcpu{cluster="c1",component="index"} 2
made_counter_total 12345
not_a_number NaN
"""


class Target:
    """An exporter whose last metric can vanish."""

    def __init__(self) -> None:
        self.text = TARGET
        self.port = 0

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.text, headers={"Content-Type": "text/plain; version=0.0.4"})


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    made = Target()
    app = web.Application()
    app.add_routes([web.get("/metrics", made.metrics)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


def scrape_config(target: Target) -> str:
    return (
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
        "scrape_configs:\n- job_name: made\n"
        f"  static_configs:\n  - targets: ['127.0.0.1:{target.port}']\n"
    )


def prometheus_config(target: Target, world: GatewayWorld, files: Credentials) -> str:
    authority = world.identity.folder / "authority" / "ca.pem"
    return scrape_config(target) + (
        f"remote_write:\n- url: {world.url}/api/v1/write\n"
        "  queue_config: {batch_send_deadline: 1s, max_shards: 2, retry_on_http_429: true}\n"
        f"  tls_config: {{ca_file: {authority}, cert_file: {files.certificate}, key_file: {files.key}}}\n"
    )


async def rows_when(world: GatewayWorld, names: set[str], least: int) -> list[Row]:
    """All rows, once there are `least` of every name."""
    for _ in range(300):
        rows = [row for _, batch in await world.stored() for row in batch]
        counts = {name: sum(row[0]["__name__"] == name for row in rows) for name in names}
        if min(counts.values()) >= least:
            return rows
        await asyncio.sleep(0.1)
    raise AssertionError(f"thirty seconds, and only {counts}")


def check_rows(rows: list[Row]) -> None:
    assert {(labels["organization"], labels["project"]) for labels, _, _ in rows} == {("acme", "prod")}
    values = {
        (labels["component"], value)
        for labels, _, value in rows
        if labels["__name__"] == "byoc_component_allocated_vcpu"
    }
    assert values >= {("query", 4.5), ("index", 2.0)}
    assert {value for labels, _, value in rows if labels["__name__"] == "made_counter_total"} == {12345.0}
    assert {value for labels, _, value in rows if labels["__name__"] == "up"} == {1.0}


NAMES = {"byoc_component_allocated_vcpu", "made_counter_total", "up"}


async def test_prometheus_in_agent_mode_pushes_over_mutual_tls(
    tmp_path: Path, target: Target, start_prometheus: StartPrometheus
) -> None:
    async with gateway_world(tmp_path) as world:
        config = prometheus_config(target, world, world.credentials())
        await asyncio.to_thread(start_prometheus, config, agent=True)
        check_rows(await rows_when(world, NAMES, 3))
        assert world.metric("byoc_gateway_labels_overwritten_total") > 0
        assert world.metric("byoc_gateway_pushes_total", outcome="written") > 0
        assert world.metric("byoc_gateway_pushes_total", outcome="refused") == 0


async def test_prometheus_is_slowed_down_and_loses_nothing(
    tmp_path: Path, target: Target, start_prometheus: StartPrometheus
) -> None:
    """429 with Retry-After: every sample of a series arrives all the same, in order."""
    tenant = TenantLimits(samples_per_second=7, burst_samples=5)
    async with gateway_world(tmp_path, GatewaySettings(tenant=tenant)) as world:
        config = prometheus_config(target, world, world.credentials())
        await asyncio.to_thread(start_prometheus, config, agent=True)
        rows = await rows_when(world, NAMES, 6)
        assert world.metric("byoc_gateway_pushes_total", outcome="limited") > 0
        times = sorted({time for labels, time, _ in rows if labels["__name__"] == "up"})
        assert all(later - earlier < 1900 for earlier, later in itertools.pairwise(times))


async def test_a_revoked_prometheus_is_cut_off(
    tmp_path: Path, target: Target, start_prometheus: StartPrometheus
) -> None:
    async with gateway_world(tmp_path) as world:
        files = world.credentials()
        await asyncio.to_thread(start_prometheus, prometheus_config(target, world, files), agent=True)
        await rows_when(world, NAMES, 1)
        await asyncio.to_thread(world.identity.revocations.revoke_collector, ACME, COLLECTOR, "test")
        for _ in range(200):
            if world.metric("byoc_gateway_turned_away_total", reason="revoked") >= 2:
                break
            await asyncio.sleep(0.1)
        assert world.metric("byoc_gateway_turned_away_total", reason="revoked") >= 2
        # two refusals stand between the revocation and now: what is stored is older than the first
        assert world.metric("byoc_gateway_pushes_in_flight") == 0


async def test_vmagent_pushes_over_mutual_tls(tmp_path: Path, target: Target, start_vmagent: StartVmagent) -> None:
    async with gateway_world(tmp_path) as world:
        files = world.credentials()
        flags = [
            f"-remoteWrite.tlsCAFile={tmp_path / 'authority' / 'ca.pem'}",
            f"-remoteWrite.tlsCertFile={files.certificate}",
            f"-remoteWrite.tlsKeyFile={files.key}",
            "-remoteWrite.flushInterval=1s",
        ]
        url = f"{world.url}/api/v1/write"
        await asyncio.to_thread(start_vmagent, scrape_config(target), url, flags)
        check_rows(await rows_when(world, NAMES, 3))
        assert world.metric("byoc_gateway_pushes_total", outcome="refused") == 0
