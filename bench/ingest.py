"""What a stored, queryable sample costs the vendor: gateway, log and lake writer against a VictoriaMetrics.

The same samples go to both in the same run. Ours come over mutual TLS into a gateway process, a log on SQLite and a
lake writer process; the processor time of both counts, from the first counted push until a scan can return
every sample. VictoriaMetrics takes them as remote write 1.0 without TLS; its time ends when a query returns all.
Warm scrapes come first, which bring all series and make for the writer's first full commit.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from bench.identity import FILES, write_identity
from bench.machine import cpu_seconds, measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import Program, program, python
from bench.pushes import frame_bodies
from bench.serve_vendor import open_lake
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.frames import MEDIA_TYPE, EntryTable, StreamEncoder, Tick
from collector.wire.headers import CONTENT_TYPE_RW1, VERSION_HEADER, VERSION_RW1, PushHeaders
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from kernel.identity import client_context
from kernel.window import Window
from metering.record import LabelSet, canonical_labels
from tests.services.kafka import KafkaServer, run_kafka
from tests.services.process import find_program, free_ports

INTERVAL_MS = 15_000
SERIES_A_BODY = 10_000
SETTLE_SECONDS = 5.0  # VictoriaMetrics has written what is in memory
PATIENCE_SECONDS = 120.0
FRAMES_BUDGET, RW1_BUDGET = Budget(0.2), Budget(0.6)
_RW1 = {"Content-Type": CONTENT_TYPE_RW1, "Content-Encoding": "snappy", VERSION_HEADER: VERSION_RW1}
Headers = dict[str, str]
Pushes = Sequence[tuple[bytes, Headers]]


@dataclass(frozen=True)
class Course:
    """Scrapes of one target; `warm` of them are not counted."""

    series: int
    warm: int
    counted: int
    start_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000 // 3_600_000 * 3_600_000 - 3_600_000)

    @property
    def samples(self) -> int:
        """Those counted."""
        return self.series * self.counted

    def labels(self) -> list[LabelSet]:
        """The series' labels, sorted by name."""
        return [_labels(number) for number in range(self.series)]

    def values(self) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """By scrape; 48 % of the series move between two."""
        dice = np.random.default_rng(7)
        values = np.floor(dice.random(self.series) * 1e6)
        moving = dice.random(self.series) < 0.48
        found = []
        for _ in range(self.warm + self.counted):
            values = values + moving * dice.integers(0, 40, self.series)
            found.append(values)
        return found


def frames(*, quick: bool) -> Outcome:
    """Processor time of a sample that came as our own frames."""
    return _outcome("ingest", _frame_pushes, FRAMES_BUDGET, quick=quick)


def rw1(*, quick: bool) -> Outcome:
    """Processor time of a sample that came as remote write 1.0, from a foreign sender."""
    return _outcome("ingest-rw1", _rw1_pushes, RW1_BUDGET, quick=quick)


def kafka(*, quick: bool) -> Outcome:
    """The same as `frames`, the log being a Kafka, whose processor time counts."""
    return _outcome("ingest-kafka", _frame_pushes, FRAMES_BUDGET, quick=quick, shape="kafka")


def _outcome(
    name: str,
    make: Callable[[Course], list[Pushes]],
    budget: Budget,
    *,
    quick: bool,
    shape: str = "apart",
) -> Outcome:
    course = Course(20_000, 110, 60) if quick else Course(100_000, 25, 60)
    runs = 1 if quick else 3
    program_path = find_program("victoria-metrics", how_to_get="apt-get install victoria-metrics")
    note(f"{name}: making {course.warm + course.counted} scrapes of {course.series} series")
    ours, theirs = make(course), _rw1_pushes(course)
    found = [asyncio.run(_ours(course, ours, shape)) for _ in range(runs)]
    peer = [asyncio.run(_peer(course, theirs, program_path)) for _ in range(runs)]
    together = [] if quick else [asyncio.run(_ours(course, ours, "both"))]
    return Outcome(
        name,
        "microseconds of processor time per stored, queryable sample",
        [each.total for each in found],
        peer,
        budget,
        {
            "peer_is": "victoria-metrics of Debian, remote write 1.0 without TLS",
            "series": course.series,
            "samples": course.samples,
            "gateway_us": [round(each.gateway, 4) for each in found],
            "lake_writer_us": [round(each.lake, 4) for each in found],
            "broker_us": [round(each.broker, 4) for each in found],
            "one_process_and_a_log_in_memory_us": [round(each.total, 4) for each in together],
            "body_bytes_per_sample": round(
                sum(len(body) for pushes in ours[course.warm :] for body, _ in pushes) / course.samples, 2
            ),
        },
    )


@dataclass(frozen=True)
class _Cost:
    """Microseconds a sample; a log on SQLite is part of both, a broker is beside them."""

    gateway: float
    lake: float = 0.0
    broker: float = 0.0

    @property
    def total(self) -> float:
        return self.gateway + self.lake + self.broker


async def _ours(course: Course, scrapes: list[Pushes], shape: str) -> _Cost:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        async with AsyncExitStack() as stack:
            parts = ("both",) if shape == "both" else ("gateway", "lake")
            running: list[Program] = []
            broker = stack.enter_context(_broker(folder)) if shape == "kafka" else None
            for part in parts:
                command = python("-m", "bench.serve_vendor", part, text)
                command += [f"--log={broker.bootstrap_servers}"] if broker else []
                heard = part != "lake"
                running.append(
                    await stack.enter_async_context(program(part, command, folder, measured_core(), is_heard=heard))
                )
            url = f"https://localhost:{int(await running[0].line())}/api/v1/write"
            pids = [each.pid for each in running] + ([broker.process.pid] if broker else [])
            context = client_context(
                (folder / FILES.ca).read_bytes(), folder / FILES.client, folder / FILES.client_key
            )
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(connector=connector) as session:
                await _push(session, url, scrapes[: course.warm])
                await _await_stored(folder, course.series * course.warm)
                before = [cpu_seconds(pid) for pid in pids]
                await _push(session, url, scrapes[course.warm :])
            await _await_stored(folder, course.series * (course.warm + course.counted))
            used = [
                (cpu_seconds(pid) - start) / course.samples * 1e6 for pid, start in zip(pids, before, strict=True)
            ]
            await _check(folder, course)
    note(f"ours, {shape}: {used} us")
    return _Cost(*used)


@contextmanager
def _broker(folder: Path) -> Iterator[KafkaServer]:
    (folder / "kafka").mkdir()
    with pinned(measured_core()), run_kafka(folder / "kafka") as broker:  # all its threads, by inheritance
        os.sched_setaffinity(0, {other_core()})
        yield broker


async def _await_stored(folder: Path, samples: int) -> None:
    lake = await open_lake(folder)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await lake.info()).rows < samples:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.25)
    finally:
        await lake.close()


async def _check(folder: Path, course: Course) -> None:
    lake = await open_lake(folder)
    last_ms = course.start_ms + (course.warm + course.counted) * INTERVAL_MS
    found = (await lake.scan("acme", Window(course.start_ms, last_ms))).num_rows
    await lake.close()
    if found != course.series * (course.warm + course.counted):
        raise AssertionError(f"a scan returns {found} samples")


async def _peer(course: Course, scrapes: list[Pushes], path: str) -> float:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        (port,) = free_ports(1)
        command = [
            path,
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-storageDataPath={text}/data",
            "-retentionPeriod=1y",
        ]
        url = f"http://127.0.0.1:{port}"
        async with (
            program("victoria-metrics", command, Path(text), measured_core(), is_heard=False) as server,
            aiohttp.ClientSession() as session,
        ):
            await _await_up(session, url)
            await _push(session, f"{url}/api/v1/write", scrapes[: course.warm])
            await asyncio.sleep(SETTLE_SECONDS)
            before = cpu_seconds(server.pid)
            await _push(session, f"{url}/api/v1/write", scrapes[course.warm :])
            await asyncio.sleep(SETTLE_SECONDS)
            used = (cpu_seconds(server.pid) - before) / course.samples * 1e6
            await _check_peer(session, url, course)
    note(f"victoria-metrics: {used} us")
    return used


async def _await_up(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                async with session.get(f"{url}/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def _check_peer(session: aiohttp.ClientSession, url: str, course: Course) -> None:
    last_ms = course.start_ms + (course.warm + course.counted) * INTERVAL_MS
    query = {"query": 'sum(count_over_time({job="milvus"}[2h]))', "time": str(last_ms / 1000)}
    async with session.get(f"{url}/api/v1/query", params=query) as answer:
        result = (await answer.json())["data"]["result"]
    found = int(result[0]["value"][1]) if result else 0
    if found != course.series * (course.warm + course.counted):
        raise AssertionError(f"victoria-metrics returns {found} samples")


async def _push(session: aiohttp.ClientSession, url: str, scrapes: Sequence[Pushes]) -> None:
    for pushes in scrapes:
        for body, headers in pushes:
            async with session.post(url, data=body, headers=headers) as answer:
                if answer.status not in (200, 204):
                    raise AssertionError(f"{url} answered {answer.status}: {await answer.text()}")


def _labels(number: int) -> LabelSet:
    return (
        ("__name__", f"milvus_metric_{number % 200}_total"),
        ("cluster", f"c{number % 7}"),
        ("collection", f"collection_{number // 50}"),
        ("instance", f"10.0.{number % 40}.{number % 250}:9091"),
        ("job", "milvus"),
        ("node_id", str(number)),
        ("pod", f"querynode-{number % 13}"),
    )


def _rw1_pushes(course: Course) -> list[Pushes]:
    labels = course.labels()
    scrapes: list[Pushes] = []
    for scrape, values in enumerate(course.values()):
        at_ms = course.start_ms + scrape * INTERVAL_MS
        rows = [WireSeries(each, ((at_ms, value),)) for each, value in zip(labels, values.tolist(), strict=True)]
        parts = [rows[start : start + SERIES_A_BODY] for start in range(0, len(rows), SERIES_A_BODY)]
        scrapes.append([(compress(encode_rw1(part)), _RW1) for part in parts])
    return scrapes


def _frame_pushes(course: Course) -> list[Pushes]:
    table = EntryTable()
    born = table.take([b"\x02" + canonical_labels(each) for each in course.labels()])
    encoder, none = StreamEncoder(1, table), np.empty(0, np.int32)
    scrapes: list[Pushes] = []
    number = 0
    for scrape, values in enumerate(course.values()):
        at_ms = course.start_ms + scrape * INTERVAL_MS
        tick = Tick(at_ms, values, None, none, none, none if scrape else born)
        bodies = frame_bodies(1, encoder.encode(tick, 1))
        pushes = []
        for body in bodies:
            number += 1
            pushes.append((body, {"Content-Type": MEDIA_TYPE, **PushHeaders(1, number).render()}))
        scrapes.append(pushes)
    return scrapes
