"""Frames through the gateway that the vendor runs, over mutual TLS: stored as they were scraped, and proven."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from collector.cli import app
from collector.history import backfill as backfill_module
from collector.history.command import backfill
from collector.metrics import CollectorMetrics
from collector.settings import load_collector_settings
from collector.shipping import Shipping
from collector.wire.headers import PushLane
from kernel.clock import SystemClock
from kernel.ids import CollectorId, Tenant
from metering.frames import SourceReaders
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, decode_header
from tests.collector.frames import FrameStream
from tests.collector.world import write_config
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME, COLLECTOR


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
