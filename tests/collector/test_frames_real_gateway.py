"""Frames through the gateway that the vendor runs, over mutual TLS: stored as they were scraped, and proven."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import prometheus_client
import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from typer.testing import CliRunner

from collector.app import CollectorService
from collector.cli import app
from collector.history import backfill as backfill_module
from collector.history.command import backfill
from collector.metrics import CollectorMetrics
from collector.settings import load_collector_settings
from collector.shipping import Shipping, Way
from collector.wire.headers import PushLane
from kernel.clock import SystemClock
from kernel.ids import CollectorId, Tenant
from kernel.log.memory import MemoryLog
from kernel.window import Window
from metering.frames import SourceReaders
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, decode_header
from metering.refusal import REFUSALS_TOPIC, refusal_record
from tests.collector.frames import FrameStream
from tests.collector.world import Page, run_target, static_job, until, write_config
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME, COLLECTOR
from tests.lake.setting import open_lake, writer_of

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


async def stored(world: GatewayWorld, topic: str = LIVE_TOPIC) -> list[tuple[str, str, int, float]]:
    """(lane, name, timestamp ms, value) of all that the log holds of frames, in its order."""
    names: list[bytes] = []

    def assign(_tenant: Tenant, _collector: CollectorId, new: Sequence[bytes]) -> np.ndarray:
        names.extend(new)
        return np.arange(len(names) - len(new), len(names), dtype=np.int64)

    readers, found = SourceReaders(assign), []
    for record in await world.records(topic):
        header = decode_header(record)
        for one in readers.read(header, record.value, record.offset):
            rows = one.rows if hasattr(one, "rows") else one
            columns = rows.series.tolist(), rows.timestamps_ms.tolist(), rows.values.tolist()
            for series, at_ms, value in zip(*columns, strict=True):
                name = names[series].split(b"\xff")[1].decode()
                found.append((header.lane.value, name, at_ms, value))
    return found


async def test_both_lanes_arrive_with_receipts_that_prove_it(tmp_path: Path) -> None:
    async with gateway_world(tmp_path) as world:
        (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
        (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
        config = write_config(tmp_path, world.url, spool={"linger": "0s", "segment": "64KB"})
        settings, clock = load_collector_settings(config), SystemClock()
        now = clock.now_ms()
        expected = []
        for boot in range(2):
            for lane in (PushLane.BILLING, PushLane.BULK):
                shipping = Shipping(settings, lane, clock, CollectorMetrics())
                await shipping.identity.ensure()
                await shipping.open()
                shipping.start()
                stream = FrameStream(7)
                for number in range(10):
                    at_ms = now + boot * 10 + number
                    await stream.append(shipping.spool, at_ms, {"a": number / 3, f"b{number // 4}": 1}, at_ms)
                    expected += [(lane.value, "a", at_ms, number / 3), (lane.value, f"b{number // 4}", at_ms, 1.0)]
                await shipping.spool.drained()
                assert shipping.dead_letters.load() == []
                assert shipping.spool.gaps.load() == []
                await shipping.close()
        found = [row for row in await stored(world) if row[3] == row[3]]
        headers = [decode_header(record) for record in await world.records(LIVE_TOPIC)]
    assert found == expected
    assert {header.format.value for header in headers} == {"frames"}
    previous = [header.previous for header in headers if header.sequence and header.sequence.number == 1]
    assert previous[:2] == [None, None]
    assert [one[1] for one in previous[2:] if one is not None] == [10, 10]
    result = CliRunner().invoke(app, ["verify", "-c", str(config)])
    assert result.exit_code == 0, result.output
    assert result.output.count("10 with a receipt") == 4


async def test_a_backfill_arrives_in_frames_with_receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill_module, "CHUNK_SAMPLES", 100)
    async with gateway_world(tmp_path) as world:
        (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
        (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
        config = write_config(tmp_path, world.url)
        begin = SystemClock().now_ms() - 10_000_000
        rows = [f"{begin + number},byoc_x{number % 7},{number / 4}" for number in range(350)]
        (tmp_path / "history.csv").write_text("\n".join(["timestamp_ms,metric,value", *rows]) + "\n")
        outcome = await backfill(load_collector_settings(config), tmp_path / "history.csv")
        found = await stored(world, HISTORY_TOPIC)
    assert (outcome.appended, outcome.rejected) == (350, 0)
    expected = [("history", f"byoc_x{number % 7}", begin + number, number / 4) for number in range(350)]
    assert sorted(found) == sorted(expected)
    assert CliRunner().invoke(app, ["verify", "-c", str(config)]).exit_code == 0


async def test_a_real_page_arrives_in_the_lake_with_what_it_tells(tmp_path: Path) -> None:
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("jobs_seconds", "Spent on jobs.", ["of"], unit="seconds", registry=registry)
    counter.labels("x").inc(3)
    prometheus_client.Histogram("jobs_size_bytes", "Sizes, s3cr3t.", registry=registry).observe(0.3)
    body = generate_latest(registry)  # type: ignore[no-untyped-call]
    began = {line.split(b" ")[0]: float(line.split(b" ")[1]) for line in body.splitlines() if b"_created" in line}
    policy = {
        "allow": [{"metrics": ["jobs_*", "up"], "labels": ["*"], "pseudonyms": []}],
        "help_texts": ["jobs_sec*"],
    }
    async with gateway_world(tmp_path) as world, run_target(Page(body, OPEN_METRICS)) as port:
        (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
        (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
        config = write_config(tmp_path, world.url, scrape_configs=[static_job(port)], policy=policy)
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        lake = await open_lake(tmp_path / "lake")
        writer = writer_of(lake, world.log)
        try:
            while (await lake.metadata(ACME.organization)).num_rows < 2:
                await until(lambda: bool(collector.shipping))
                await writer.drain()
        finally:
            await collector.service.shutdown()
        rows = (await lake.metadata(ACME.organization)).to_pylist()
        starts = (await lake.starts(ACME.organization, Window(0, 1 << 53))).to_pylist()
    told = {row["family"]: (row["type"], row["unit"], row["help"]) for row in rows}
    assert told == {
        "jobs_seconds": ("counter", "seconds", "Spent on jobs."),
        "jobs_size_bytes": ("histogram", "", ""),
    }
    expected = {round(at * 1000) for at in began.values()}
    assert {row["start_ms"] for row in starts} == expected
    assert len(starts) > 10  # each bucket began too


async def test_any_number_of_refusals_is_heard_each_once_in_both_lanes(tmp_path: Path) -> None:
    """An answer holds fifty of them: the collector says which it has, and hears the next."""
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1, REFUSALS_TOPIC: 1})
    writer = await log.writer()
    async with gateway_world(tmp_path, writer=writer, log=log) as world:
        assert world.server.refused is not None
        reading = asyncio.create_task(world.server.refused.run())
        (tmp_path / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
        (tmp_path / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
        config = write_config(tmp_path, world.url, spool={"linger": "0s", "segment": "64KB"})
        settings, clock = load_collector_settings(config), SystemClock()
        way = Way(settings, clock, CollectorMetrics())
        await way.identity.ensure()
        lanes = [Shipping(settings, lane, clock, way.metrics, way) for lane in (PushLane.BILLING, PushLane.BULK)]
        streams = [FrameStream(7), FrameStream(8)]
        await asyncio.to_thread(way.ledger.open)
        for lane in lanes:
            await lane.open()
            lane.start()

        async def push(count: int) -> None:
            for _ in range(count):
                at_ms = clock.now_ms()
                for lane, stream in zip(lanes, streams, strict=True):
                    await stream.append(lane.spool, at_ms, {"a": 1.0}, at_ms)
            for lane in lanes:
                await lane.spool.drained()

        await push(70)
        for record in await world.records(LIVE_TOPIC):
            await writer.append(REFUSALS_TOPIC, [refusal_record(record, "columns that are none")])
        found: list[tuple[int | None, int | None]] = []
        for _ in range(200):
            await push(1)
            found = [(gap.epoch, gap.first) for lane in lanes for gap in lane.spool.gaps.load()]
            if len(set(found)) == 140:
                break
        assert len(found) == len(set(found)) == 140
        await push(1)
        assert not world.server.refused._waiting, "the gateway has nothing more to tell"
        for lane in lanes:
            await lane.close()
        await way.close()
        reading.cancel()
