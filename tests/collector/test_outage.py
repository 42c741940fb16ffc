"""An hour without network, on virtual time: every scrape of it lies in the lake, once, as the target said it."""

from __future__ import annotations

import asyncio
import hashlib
import random
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from collector.left import LeftLedger
from collector.metrics import CollectorMetrics
from collector.policy import OpenPolicy
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.parts import UploaderParts
from collector.push.transport import Push
from collector.push.uploader import Uploader
from collector.push.version import VersionMemory, WireProtocol
from collector.scrape.context import Lane as ScrapeLane
from collector.scrape.context import ScrapeContext
from collector.scrape.fetch import Fetcher, Page, TakePage
from collector.scrape.horizon import Horizon
from collector.scrape.loop import TargetLoop
from collector.scrape.series import STALE, SeriesRules
from collector.scrape.settings import ScrapeConfig
from collector.scrape.state import AUTO_METRICS, TargetState
from collector.scrape.target import Target
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders, PushLane
from collector.wire.rw2 import decode_request
from collector.wire.series import series_of
from collector.wire.snappy import decompress
from console.demo.rows import raw_rows
from console.demo.witness import Row
from kernel.clock import VirtualClock
from kernel.log import LogWriter
from kernel.log.memory import MemoryLog
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, BatchHeader, Lane, SampleBatch, encode_record, make_batch
from metering.record import Sequence as PushSequence
from tests.collector.world import ACME, COLLECTOR, LIMITS
from tests.lake.setting import open_lake

HOUR = 3600


class CountingFetcher(Fetcher):
    """A page that says how often it was fetched; remembers when."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(ScrapeConfig(job_name="j"))
        self.served_ms: list[int] = []
        self._clock = clock

    @property
    def pages(self) -> int:
        return len(self.served_ms)

    async def fetch(self, target: Target, take: TakePage | None = None) -> Page:
        self.served_ms.append(self._clock.now_ms())
        return Page(bytearray(b"n %d\n" % self.pages), "text/plain")


class CuttableNetwork:
    """Delivers into the log, as the gateway does; while cut nothing arrives, and now and then an answer is lost."""

    def __init__(self, log: LogWriter, clock: VirtualClock) -> None:
        self.cut = False
        self.tries_while_cut = 0
        self.received: list[PushHeaders] = []
        self._random = random.Random(3)
        self._log, self._clock = log, clock

    async def send(self, push: Push) -> Answer:
        if self.cut:
            self.tries_while_cut += 1
            return Answer(0, "network is unreachable")
        if push.protocol is WireProtocol.FRAMES:
            return Answer(415, "remote write alone")
        header, batch = self._batch(push)
        await self._log.append(header.lane.topic, [encode_record(header, batch)])
        self.received.append(push.headers)
        if self._random.random() < 0.1:
            return Answer(0, "connection reset after the body was read")
        return Answer(204, "", {SAMPLES_WRITTEN: str(len(batch))})

    def _batch(self, push: Push) -> tuple[BatchHeader, SampleBatch]:
        sent = push.headers
        series = series_of(decode_request(decompress(push.body, 2**31), LIMITS))
        rows = [(named(dict(one.labels)), at_ms, value) for one in series for at_ms, value in one.samples]
        header = BatchHeader(
            ACME,
            COLLECTOR,
            Lane(sent.lane),
            self._clock.now_ms(),
            hashlib.sha256(push.body).hexdigest(),
            PushSequence(sent.epoch, sent.sequence, sent.part),
            sent.complete_through_ms,
        )
        return header, make_batch(rows)


def named(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """In the tenant's name, as the gateway writes it."""
    return tuple(sorted({**labels, "organization": ACME.organization, "project": ACME.project}.items()))


def found(rows: Iterable[Row]) -> Counter[tuple[object, int, bytes]]:
    """Each row of the lake with its value's bits; a duration depends on the machine's turns and counts as none."""
    counted: Counter[tuple[object, int, bytes]] = Counter()
    for labels, at_ms, value in rows:
        is_duration = dict(labels)["__name__"] == "scrape_duration_seconds" and 0 <= value <= 1
        counted[labels, at_ms, struct.pack("<d", 0.0 if is_duration else value)] += 1
    return counted


def said(served_ms: Sequence[int], ended_ms: int) -> Counter[tuple[object, int, bytes]]:
    """Each row that must lie in the lake: what the target and the collector said at each scrape, and the end."""
    rows: Counter[tuple[object, int, bytes]] = Counter()

    def add(at_ms: int, *values: float) -> None:
        for name, value in zip(("n", *AUTO_METRICS), values, strict=True):
            rows[named({"__name__": name, "job": "j"}), at_ms, struct.pack("<d", value)] += 1

    for number, at_ms in enumerate(served_ms, 1):
        add(at_ms, number, 1, 0, 1, 1, number == 1)  # up, duration on virtual time, scraped, kept, added
    add(ended_ms, *(STALE,) * 6)
    return rows


async def turn(clock: VirtualClock, seconds: float) -> None:
    """Let time pass second by second, and the threads of the spool finish in between."""
    for _ in range(round(seconds)):
        await clock.advance(1)
        await asyncio.sleep(0)


async def store(log: MemoryLog, folder: Path, clock: VirtualClock) -> list[Row]:
    """What a lake writer that begins now makes of the log, raw from its files."""
    lake = await open_lake(folder, clock)
    try:
        await LakeWriter(lake, log, LakeSettings(), clock).drain()
        return await asyncio.to_thread(raw_rows, lake.tables, ACME.organization)
    finally:
        await lake.close()


@pytest.mark.slow
async def test_an_hour_without_network_loses_and_doubles_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    lane = LaneSpool(tmp_path / "billing", LaneOptions(PushLane.BILLING, 10**8), clock)
    lane.open()
    ledger = LeftLedger(tmp_path / "left.sqlite", clock, 100)
    ledger.open()
    log = MemoryLog(clock)
    await log.ensure_topics({LIVE_TOPIC: 2, HISTORY_TOPIC: 1})
    network, metrics = CuttableNetwork(await log.writer(), clock), CollectorMetrics()
    parts = UploaderParts(
        network,
        VersionMemory(tmp_path / "version.json", clock),
        DeadLetters(tmp_path / "dead.jsonl", 10**6),
        ledger,
        metrics,
        clock,
    )
    pushing = asyncio.create_task(Uploader(lane, parts, Backoff(0.5, 60, random.Random(5))).run())
    fetcher = CountingFetcher(clock)
    target = Target("j", "http://t:1/metrics", (("job", "j"),), 15, 10)
    state = TargetState(
        SeriesRules(target.labels, False, (), (), OpenPolicy()), honor_timestamps=True, sample_limit=0
    )
    lanes = [
        ScrapeLane(name, lane, Horizon(clock)) for name in (PushLane.BILLING, PushLane.BULK)
    ]  # nothing is bulk
    loop = TargetLoop(target, state, fetcher, ScrapeContext(clock, lanes, metrics))
    scrapes = asyncio.create_task(loop.run())

    async def pass_until(pages: int) -> None:
        while fetcher.pages < pages:
            before = fetcher.pages
            await turn(clock, 15)
            while lane.last_sequence < fetcher.pages:  # noqa: ASYNC110 - the disk is real, the clock is not
                await asyncio.sleep(0.001)
            assert fetcher.pages >= before

    await pass_until(10)
    early = await store(log, tmp_path, clock)
    network.cut = True
    before = network.tries_while_cut
    await pass_until(10 + HOUR // 15)
    assert 50 <= network.tries_while_cut - before <= 200  # backs off to a minute with jitter, never gives up
    network.cut = False
    await pass_until(20 + HOUR // 15)
    loop.stop()
    ended_ms = clock.now_ms()
    await scrapes
    while (lane.epoch, lane.last_sequence) not in lane.settled:
        await turn(clock, 5)
        await asyncio.sleep(0.001)
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    await lane.close()

    rows = await store(log, tmp_path, clock)
    await log.close()
    assert found(rows) == said(fetcher.served_ms, ended_ms)
    assert 0 < len(early) < len(rows)  # the second writer went on where the first one was
    order = [headers.sequence for headers in network.received]
    assert order == sorted(order)
    assert sorted(set(order)) == list(range(1, lane.last_sequence + 1))
    assert len(order) > lane.last_sequence  # some answers were lost, so some came twice
    through = [headers.complete_through_ms or 0 for headers in network.received]
    assert through == sorted(through)
    assert [family.samples for family in ledger.families() if family.name == "n"] == [lane.last_sequence]
