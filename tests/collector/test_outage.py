"""An hour without network, on virtual time: every scrape of it arrives, in order, once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from collector.labels import render_labels
from collector.left import LeftLedger
from collector.metrics import CollectorMetrics
from collector.policy import OpenPolicy
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.transport import Push
from collector.push.uploader import Uploader, UploaderParts
from collector.push.version import VersionMemory
from collector.scrape.fetch import Fetcher, Page
from collector.scrape.horizon import Horizon
from collector.scrape.loop import ScrapeContext, TargetLoop
from collector.scrape.series import SeriesRules
from collector.scrape.settings import ScrapeConfig
from collector.scrape.state import TargetState
from collector.scrape.target import Target
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders, PushLane
from collector.wire.rw2 import decode_request
from collector.wire.series import series_of
from collector.wire.snappy import decompress
from kernel.clock import VirtualClock
from tests.collector.world import LIMITS

HOUR = 3600


class CountingFetcher(Fetcher):
    """A page that says how often it was fetched."""

    def __init__(self) -> None:
        super().__init__(ScrapeConfig(job_name="j"))
        self.pages = 0

    async def fetch(self, target: Target) -> Page:
        self.pages += 1
        return Page(b"n %d\n" % self.pages, "text/plain")


class CuttableNetwork:
    """Delivers to a list; while cut nothing arrives, and now and then an answer is lost after delivery."""

    def __init__(self) -> None:
        self.cut = False
        self.tries_while_cut = 0
        self.received: list[tuple[PushHeaders, dict[str, float]]] = []
        self._random = random.Random(3)

    async def send(self, push: Push) -> Answer:
        if self.cut:
            self.tries_while_cut += 1
            return Answer(0, "network is unreachable")
        rows = series_of(decode_request(decompress(push.body, 2**31), LIMITS))
        self.received.append((push.headers, {render_labels(one.labels): one.samples[0][1] for one in rows}))
        if self._random.random() < 0.1:
            return Answer(0, "connection reset after the body was read")
        return Answer(204, "", {SAMPLES_WRITTEN: str(len(rows))})


async def turn(clock: VirtualClock, seconds: float) -> None:
    """Let time pass second by second, and the threads of the spool finish in between."""
    for _ in range(round(seconds)):
        await clock.advance(1)
        await asyncio.sleep(0)


async def test_an_hour_without_network_loses_and_doubles_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    lane = LaneSpool(tmp_path / "live", LaneOptions(PushLane.LIVE, 10**8), clock)
    lane.open()
    ledger = LeftLedger(tmp_path / "left.sqlite", clock, 100)
    ledger.open()
    network, metrics = CuttableNetwork(), CollectorMetrics()
    parts = UploaderParts(
        network,
        VersionMemory(tmp_path / "version.json", clock),
        DeadLetters(tmp_path / "dead.jsonl", 10**6),
        ledger,
        metrics,
        clock,
    )
    pushing = asyncio.create_task(Uploader(lane, parts, Backoff(0.5, 60, random.Random(5))).run())
    fetcher = CountingFetcher()
    target = Target("j", "http://t:1/metrics", (("job", "j"),), 15, 10)
    state = TargetState(
        SeriesRules(target.labels, False, (), (), OpenPolicy()), honor_timestamps=True, sample_limit=0
    )
    loop = TargetLoop(target, state, fetcher, ScrapeContext(clock, lane, Horizon(clock), metrics))
    scraping = asyncio.create_task(loop.run())

    async def pass_until(pages: int) -> None:
        while fetcher.pages < pages:
            before = fetcher.pages
            await turn(clock, 15)
            while lane.last_sequence < fetcher.pages:  # noqa: ASYNC110 - the disk is real, the clock is not
                await asyncio.sleep(0.001)
            assert fetcher.pages >= before

    await pass_until(10)
    network.cut = True
    before = network.tries_while_cut
    await pass_until(10 + HOUR // 15)
    assert 50 <= network.tries_while_cut - before <= 200  # backs off to a minute with jitter, never gives up
    network.cut = False
    await pass_until(20 + HOUR // 15)
    loop.stop()
    await scraping
    while lane.acknowledged < (lane.epoch, lane.last_sequence):
        await turn(clock, 5)
        await asyncio.sleep(0.001)
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    await lane.close()

    stored: dict[int, dict[str, float]] = {}
    for headers, rows in network.received:
        assert repr(stored.setdefault(headers.sequence, rows)) == repr(rows)
    assert sorted(stored) == list(range(1, lane.last_sequence + 1))
    values = [rows['n{job="j"}'] for _, rows in sorted(stored.items())]
    assert values[:-1] == [float(number) for number in range(1, fetcher.pages + 1)]  # the last is the stale marker
    order = [headers.sequence for headers, _ in network.received]
    assert order == sorted(order)
    through = [headers.complete_through_ms or 0 for headers, _ in network.received]
    assert through == sorted(through)
    assert len(network.received) > len(stored)  # some answers were lost, so some came twice
    assert [family.samples for family in ledger.families() if family.name == "n"] == [len(stored)]
