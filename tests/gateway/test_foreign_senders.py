"""Senders that are not ours, as they are installed: Prometheus in agent mode, vmagent, the OpenTelemetry SDK."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.record import decode_samples
from tests.gateway.messages import RW2
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


def scrape_config(target: Target | Numbered) -> str:
    return (
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n"
        "scrape_configs:\n- job_name: made\n"
        f"  static_configs:\n  - targets: ['127.0.0.1:{target.port}']\n"
    )


def prometheus_config(target: Target | Numbered, world: GatewayWorld, files: Credentials) -> str:
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


class Numbered:
    """An exporter whose page number stands in every value, and of whose series one in seven is absent in each."""

    SERIES = 600

    def __init__(self) -> None:
        self.pages = 0
        self.port = 0

    async def metrics(self, _request: web.Request) -> web.Response:
        self.pages += 1
        lines = [f'page{{number="{n}"}} {value!r}' for n, value in self.values(self.pages).items()]
        return web.Response(text="\n".join(lines) + "\n", headers={"Content-Type": "text/plain; version=0.0.4"})

    def values(self, page: int) -> dict[str, float]:
        """Value by series; a fraction, zero, infinity and a large number among them."""
        special = {0: 0.0, 1: float("inf"), 2: 1e300}
        return {str(n): special.get((n + page) % 11, n + page / 16) for n in range(self.SERIES) if (n + page) % 7}


async def pages_in(world: GatewayWorld, numbered: Numbered, least: int) -> dict[int, dict[str, float]]:
    """What the log holds by time of scrape, the stale markers left out, once it holds so many scrapes whole."""
    for _ in range(400):
        found: dict[int, dict[str, float]] = {}
        for labels, time, value in [row for _, batch in await world.stored() for row in batch]:
            if labels["__name__"] == "page" and not math.isnan(value):
                assert labels["number"] not in found.setdefault(time, {}), "a sample came twice"
                found[time][labels["number"]] = value
        if len(found) > least:
            del found[max(found)]  # it may still be on its way
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"forty seconds, and only {numbered.pages} pages")


def check_pages(found: dict[int, dict[str, float]], numbered: Numbered) -> None:
    """Every scrape in its order, value by value."""
    expected = [numbered.values(page + 1) for page in range(numbered.pages)]
    assert [found[time] for time in sorted(found)] == expected[: len(found)]


@pytest.fixture
async def numbered() -> AsyncIterator[Numbered]:
    made = Numbered()
    app = web.Application()
    app.add_routes([web.get("/metrics", made.metrics)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


async def test_every_sample_of_prometheus_is_in_the_log(
    tmp_path: Path, numbered: Numbered, start_prometheus: StartPrometheus
) -> None:
    async with gateway_world(tmp_path) as world:
        config = prometheus_config(numbered, world, world.credentials())
        await asyncio.to_thread(start_prometheus, config, agent=True)
        check_pages(await pages_in(world, numbered, 8), numbered)


async def test_every_sample_of_vmagent_is_in_the_log(
    tmp_path: Path, numbered: Numbered, start_vmagent: StartVmagent
) -> None:
    async with gateway_world(tmp_path) as world:
        files = world.credentials()
        flags = [
            f"-remoteWrite.tlsCAFile={tmp_path / 'authority' / 'ca.pem'}",
            f"-remoteWrite.tlsCertFile={files.certificate}",
            f"-remoteWrite.tlsKeyFile={files.key}",
            "-remoteWrite.flushInterval=1s",
        ]
        await asyncio.to_thread(start_vmagent, scrape_config(numbered), f"{world.url}/api/v1/write", flags)
        check_pages(await pages_in(world, numbered, 8), numbered)


async def test_every_sample_of_the_opentelemetry_sdk_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # the SDK's transport prefers them to its own setting
        monkeypatch.delenv(name, raising=False)
    async with gateway_world(tmp_path) as world:
        files = world.credentials()
        exporter = OTLPMetricExporter(
            f"{world.url}/v1/metrics",
            certificate_file=str(tmp_path / "authority" / "ca.pem"),
            client_certificate_file=str(files.certificate),
            client_key_file=str(files.key),
            compression=Compression.Gzip,
        )
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        views = [View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())]
        resource = Resource({"service.name": "shop", "service.instance.id": "i1", "host.name": "h"})
        provider = MeterProvider([reader], resource=resource, views=views, shutdown_on_exit=False)
        meter = provider.get_meter("checkout")
        counter, latency = meter.create_counter("orders", unit="1"), meter.create_histogram("latency", unit="s")
        gauge, sizes = meter.create_gauge("temp", unit="Cel"), meter.create_histogram("sizes", unit="By")
        expected: list[tuple[str, str, float]] = []
        for number in range(5):
            for region in ("eu", "us"):
                counter.add(number + 1, {"region": region})
            latency.record(0.25 * number)
            sizes.record(2.0**number)
            gauge.set(number / 3)
            assert await asyncio.to_thread(provider.force_flush)
            orders = sum(range(1, number + 2))
            expected += [("orders_total", "eu", orders), ("orders_total", "us", orders)]
            expected += [("latency_seconds_count", "", number + 1), ("temp_celsius", "", number / 3)]
            expected += [("latency_seconds_sum", "", sum(0.25 * n for n in range(number + 1)))]
            expected += [("target_info", "", 1.0)]
        await asyncio.to_thread(provider.shutdown)
        rows = [row for _, batch in await world.stored() for row in batch]
        found = [
            (labels["__name__"], labels.get("region", ""), value) for labels, _, value in rows if "le" not in labels
        ]
        assert sorted(found) == sorted(expected)
        assert {labels["job"] for labels, _, _ in rows} == {"shop"}
        buckets = [value for labels, _, value in rows if labels.get("le") == "0"]
        assert buckets == [1.0] * 5, "the first latency is in the first bucket, and stays there"
        histograms = [row for record in await world.records() for row in decode_samples(record.value).histograms]
        counts = [RW2["Histogram"].FromString(row.message).count_int for row in histograms]
        assert counts == [1, 2, 3, 4, 5]
