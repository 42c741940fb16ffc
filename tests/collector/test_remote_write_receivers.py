"""Real receivers: what a stream says stands in Prometheus and in VictoriaMetrics, every sample and stale marker."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pytest

from collector.wire.frames import HistogramRow
from kernel.clock import SystemClock
from tests.collector.client_messages import WRITE, classes
from tests.collector.receiver import Rows
from tests.collector.test_remote_write_requests import STALE, Stream, bits, entry, shown
from tests.collector.test_remote_write_sender import World, writing
from tests.services.fixtures import StartPrometheus, StartVictoria
from tests.services.http_service import HttpService

READ = classes(
    "remote_read_test",
    {
        "Matcher": [(1, "type", "uint32"), (2, "name", "string"), (3, "value", "string")],
        "Query": [
            (1, "start_timestamp_ms", "int64"), (2, "end_timestamp_ms", "int64"), (3, "matchers", "Matcher*"),
        ],
        "ReadRequest": [(1, "queries", "Query*")],
        "Label": [(1, "name", "string"), (2, "value", "string")],
        "Sample": [(1, "value", "double"), (2, "timestamp", "int64")],
        "TimeSeries": [(1, "labels", "Label*"), (2, "samples", "Sample*")],
        "QueryResult": [(1, "timeseries", "TimeSeries*")],
        "ReadResponse": [(1, "results", "QueryResult*")],
    },
    "proto3",
)  # fmt: skip


async def ship(world: World) -> Rows:
    """Some scrapes with series that come, go and come back; what was said."""
    world.stream.at_ms = SystemClock().now_ms() - 300_000
    said: Rows = []
    live: dict[int, bytes] = {}
    plan: list[tuple[list[bytes], list[int]]] = [
        ([entry(f"milvus_{name}", 1 + number % 2, a='q"\\ü', i=str(number)) for name in "xyz"
          for number in range(900)], []),
        ([], [3, 5, 2_600]),
        ([entry("milvus_new", 2)], []),
        ([], [0]),
    ]  # fmt: skip
    for born, gone in plan:
        said += [(shown(live.pop(slot)), world.stream.at_ms + 15_000, STALE) for slot in gone]
        tick = world.stream.tick(born, gone, gone)
        live |= dict(zip(tick.born.tolist(), born, strict=True))
        tick.values[7] = np.inf
        await world.writer.take(world.stream.table, tick)
        said += [(shown(one), tick.at_ms, float(tick.values[slot])) for slot, one in live.items()]
    await world.drained()
    return said


def comparable(rows: Rows) -> list[tuple[str, int, bytes]]:
    return sorted((name, at, bits(value)) for name, at, value in rows)


def remote_read(server: HttpService, end_ms: int) -> Rows:
    matcher = {"type": 2, "name": "__name__", "value": "milvus_.*"}
    query = {"start_timestamp_ms": end_ms - 3_600_000, "end_timestamp_ms": end_ms, "matchers": [matcher]}
    body = bytes(cramjam.snappy.compress_raw(READ["ReadRequest"](queries=[query]).SerializeToString()))
    connection = HTTPConnection("127.0.0.1", server.port)
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    connection.request("POST", "/api/v1/read", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 200, content
    found = READ["ReadResponse"].FromString(bytes(cramjam.snappy.decompress_raw(content)))
    return [
        (",".join(f"{one.name}={one.value}" for one in series.labels), one.timestamp, one.value)
        for result in found.results
        for series in result.timeseries
        for one in series.samples
    ]


@pytest.mark.services
async def test_prometheus_has_every_sample_and_stale_marker(
    start_prometheus: StartPrometheus, tmp_path: Path
) -> None:
    flags = ["--web.enable-remote-write-receiver"]
    server = await asyncio.to_thread(start_prometheus, "scrape_configs: []", flags)
    async with writing(tmp_path, f"{server.url}/api/v1/write") as world:
        said = await ship(world)
        assert (world.lost(), world.written()["samples"]) == ({}, len(said))
    found = await asyncio.to_thread(remote_read, server, SystemClock().now_ms())
    assert comparable(found) == comparable(said)


@pytest.mark.services
async def test_prometheus_has_native_histograms(start_prometheus: StartPrometheus, tmp_path: Path) -> None:
    flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"]
    server = await asyncio.to_thread(start_prometheus, "scrape_configs: []", flags)
    async with writing(tmp_path, f"{server.url}/api/v1/write") as world:
        stream = Stream(at_ms=SystemClock().now_ms() - 60_000)
        tick = stream.tick([entry("milvus_h", 3, a="b")], [], [])
        message = WRITE["Histogram"](
            count_int=7, sum=2.5, schema=0, zero_threshold=0.5, zero_count_int=1, timestamp=tick.at_ms,
            positive_spans=[{"offset": 1, "length": 2}], positive_deltas=[2, 2],
        )  # fmt: skip
        tick.histograms = [HistogramRow(0, message.SerializeToString())]
        await world.writer.take(stream.table, tick)
        await world.drained()
        assert (world.lost(), world.written()) == ({}, {"histograms": 1})
    answer: Any = json.loads(await asyncio.to_thread(server.get, "/api/v1/query?query=milvus_h"))
    (found,) = answer["data"]["result"]
    assert found["metric"] == {"__name__": "milvus_h", "a": "b"}
    assert (found["histogram"][1]["count"], found["histogram"][1]["sum"]) == ("7", "2.5")
    assert [one[1:] for one in found["histogram"][1]["buckets"]] == [
        ["-0.5", "0.5", "1"], ["1", "2", "2"], ["2", "4", "4"],
    ]  # fmt: skip


@pytest.mark.services
async def test_victoria_metrics_has_every_sample_and_stale_marker(
    start_victoria: StartVictoria, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(start_victoria)
    async with writing(tmp_path, f"{server.url}/api/v1/write") as world:
        said = await ship(world)
        assert (world.lost(), world.written()["samples"]) == ({}, len(said))
    await asyncio.to_thread(server.get, "/internal/force_flush")
    path = "/api/v1/export?match[]=%7B__name__=~%22milvus_.*%22%7D"
    lines = (await asyncio.to_thread(server.get, path)).decode().splitlines()
    found: Rows = []
    for one in (json.loads(line.replace("+Inf", "Infinity")) for line in lines):
        name = ",".join(f"{label}={value}" for label, value in sorted(one["metric"].items()))
        values = [STALE if value is None else float(value) for value in one["values"]]  # it writes them as null
        found += [(name, at, value) for at, value in zip(one["timestamps"], values, strict=True)]
    assert comparable(found) == comparable(said)
