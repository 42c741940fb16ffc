"""Samples that one core of the gateway takes: remote write 2.0 over mutual TLS, from the handshake to the log.

Bodies of 10,000 series are made before the clock starts and sent over two kept-alive connections, each push with
headers of its own; what is divided is the gateway's processor time. The log is in memory.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.exposition import Exposition
from bench.identity import FILES, write_identity
from bench.machine import cpu_seconds, measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import program, python
from collector.exposition import KeyCache, RawSeries, parse_exposition
from collector.labels import METRIC_NAME, Labels, make_labels
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.headers import CONTENT_TYPE_RW2, SAMPLES_WRITTEN, VERSION_HEADER, VERSION_RW2, PushHeaders
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from kernel.identity import client_context
from metering.gateway.settings import TenantLimits

SERIES_A_BODY = 10_000
CONNECTIONS = 2
ROOMY_CACHE_BYTES = 2**30
DEFAULT_CACHE_BYTES = TenantLimits().series_cache_bytes
BUDGET = Budget(1e6, is_at_most=False)


@dataclass(frozen=True)
class _Load:
    bodies: list[bytes]  # one scrape after the other, each cut into bodies
    seconds: float


def measure(*, quick: bool) -> Outcome:
    """Samples of a second of one core's processor time."""
    load = _Load(_bodies(series=100_000, scrapes=2 if quick else 4), seconds=4 if quick else 10)
    runs = [asyncio.run(_run(load, ROOMY_CACHE_BYTES)) for _ in range(2 if quick else 3)]
    default = asyncio.run(_run(load, DEFAULT_CACHE_BYTES))
    return Outcome(
        "gateway",
        "samples per second of one core, remote write 2.0",
        runs,
        [],
        BUDGET,
        {
            "series": 100_000,
            "series_a_body": SERIES_A_BODY,
            "body_bytes_per_sample": round(sum(map(len, load.bodies)) / len(load.bodies) / SERIES_A_BODY, 2),
            "series_cache_bytes": ROOMY_CACHE_BYTES,
            "with_the_default_series_cache": round(default),
            "frames": "not measured yet: the wire has no frames of ours",
        },
    )


async def _run(load: _Load, cache_bytes: int) -> float:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        command = python("-m", "bench.serve_gateway", text, str(cache_bytes))
        async with program("gateway", command, folder, measured_core()) as server:
            url = f"https://localhost:{int(await server.line())}/api/v1/write"
            context = client_context(
                (folder / FILES.ca).read_bytes(), folder / FILES.client, folder / FILES.client_key
            )
            numbers = itertools.count(1)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                for body in load.bodies:  # every series once: their labels are checked and remembered
                    await _push(session, url, body, next(numbers))
                cpu, until = cpu_seconds(server.pid), time.monotonic() + load.seconds
                bodies = itertools.cycle(load.bodies)

                async def send() -> int:
                    sent = 0
                    while time.monotonic() < until:
                        await _push(session, url, next(bodies), next(numbers))
                        sent += SERIES_A_BODY
                    return sent

                samples = sum(await asyncio.gather(*(send() for _ in range(CONNECTIONS))))
                cpu = cpu_seconds(server.pid) - cpu
    note(f"gateway: {samples} samples in {cpu:.2f} s of processor time, {samples / cpu:,.0f} a second")
    return samples / cpu


async def _push(session: aiohttp.ClientSession, url: str, body: bytes, number: int) -> None:
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": CONTENT_TYPE_RW2,
        VERSION_HEADER: VERSION_RW2,
        **PushHeaders(epoch=1, sequence=number).render(),
    }
    async with session.post(url, data=body, headers=headers) as answer:
        if answer.status != 200 or answer.headers[SAMPLES_WRITTEN] != str(SERIES_A_BODY):
            raise AssertionError(f"the gateway answered {answer.status}: {await answer.text()}")


def _bodies(series: int, scrapes: int) -> list[bytes]:
    note(f"gateway: making bodies of {scrapes} scrapes of {series} series")
    exposition = Exposition(series, churn=0.0)
    cache: KeyCache[Labels] = KeyCache(_labels)
    now_ms = time.time_ns() // 1_000_000
    return [
        compress(encode_rw2(part))
        for scrape in range(scrapes)
        for part in _cut(exposition.page(), cache, now_ms + scrape * 1000)
    ]


def _labels(raw: RawSeries) -> Labels:
    return make_labels({**raw.labels, METRIC_NAME: raw.name, "job": "milvus"})


def _cut(page: bytes, cache: KeyCache[Labels], at_ms: int) -> Iterator[list[WireSeries]]:
    columns = parse_exposition(page, "text/plain; version=0.0.4", cache)
    rows = [
        WireSeries(labels, ((at_ms, value),)) for labels, value in zip(columns.entries, columns.values, strict=True)
    ]
    for start in range(0, len(rows), SERIES_A_BODY):
        yield rows[start : start + SERIES_A_BODY]
