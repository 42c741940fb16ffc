"""From the flip of a metric to the webhook: the seconds until on-call is told.

`pages` begins where the vendor begins, at the append to the log. `freshness` begins at the target: its page shows
the new value, the collector's process scrapes each second and pushes over mutual TLS, the gateway appends.
`queryable` begins there too and ends when an instant query returns the value. Rules are evaluated each second; the
receiver is a real HTTP server that checks the signature. All but the collector is one process, with a log in memory
and SQLite.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from alerts.api import AlertService, AlertSettings
from bench.machine import note, other_core
from bench.outcome import Budget, Outcome
from bench.process import program, python
from console.migrate import migrate
from kernel.clock import SystemClock
from kernel.database import Database, sqlite_url
from kernel.log import Log
from kernel.log.memory import MemoryLog
from metering.promql.api import Head, HeadLimits, evaluate, parse_expression
from metering.record import LIVE_TOPIC, BatchHeader, Lane, Sequence, encode_record, make_batch
from tests.alerts.receiver import Receiver
from tests.alerts.world import receiver_settings
from tests.collector.world import Page, run_target, static_job, write_config
from tests.gateway.world import gateway_world
from tests.identity.world import ACME, COLLECTOR

RULES = """
groups:
  - name: bench
    interval: 1s
    rules: [{alert: Hot, expr: milvus_temperature > 30}]
"""
WEBHOOK = "seconds to the webhook, 95th percentile"
HOT, COLD = 35.0, 20.0
BUDGET = Budget(2.0)
MOST_SECONDS = 30.0


def pages(*, quick: bool, flips: int | None = None) -> Outcome:
    """p95 of the seconds from the append of a flipped sample to the webhook."""
    return _outcome("pages", asyncio.run(_pages(flips or (14 if quick else 60))), "append to the log")


def freshness(*, quick: bool, flips: int | None = None) -> Outcome:
    """p95 of the seconds from a flip on the target's page to the webhook."""
    return _outcome("freshness", asyncio.run(_freshness(flips or (10 if quick else 60))), "flip at the target")


def queryable(*, quick: bool, flips: int | None = None) -> Outcome:
    """p95 of the seconds from a flip on the target's page until an instant query returns the new value."""
    seconds = asyncio.run(_queryable(flips or (10 if quick else 60)))
    return _outcome("queryable", seconds, "flip at the target", "seconds until a query returns it, 95th percentile")


def _outcome(name: str, seconds: list[float], start: str, unit: str = WEBHOOK) -> Outcome:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    details = {
        "flips": len(seconds),
        "from": start,
        "median_seconds": round(statistics.median(seconds), 3),
        "most_seconds": round(max(seconds), 3),
        "all_seconds": [round(each, 3) for each in seconds],
    }
    return Outcome(name, unit, [p95], [], BUDGET, details)


async def _pages(flips: int) -> list[float]:
    clock = SystemClock()
    log = MemoryLog(clock)
    await log.ensure_topics({LIVE_TOPIC: 1})
    writer, now = await log.writer(), COLD
    sampling: asyncio.Task[None]

    async def sample_each_second() -> None:
        number = 0
        while True:
            number += 1
            await append(number)
            await asyncio.sleep(1.0)

    async def append(number: int) -> None:
        at_ms = clock.now_ms()
        labels = (("__name__", "milvus_temperature"), ("organization", ACME.organization))
        header = BatchHeader(
            ACME, COLLECTOR, Lane.BILLING, at_ms, "", Sequence(1, number), complete_through_ms=at_ms + 1
        )
        await writer.append(LIVE_TOPIC, [encode_record(header, make_batch([(labels, at_ms, now)]))])

    async def flip(value: float) -> None:
        nonlocal now, sampling
        now = value
        sampling.cancel()  # the flipped sample is appended now, not at the next second
        sampling = asyncio.create_task(sample_each_second())

    async with _alerts(log) as receiver:
        sampling = asyncio.create_task(sample_each_second())
        try:
            return await _flip_and_wait(receiver, flip, flips)
        finally:
            sampling.cancel()


@dataclass
class _Pipe:
    """A target whose page can be flipped, a collector's process that scrapes it, a gateway on `log`."""

    log: Log
    page: Page
    value: float = COLD

    async def flip(self, wanted: float) -> None:
        self.value = wanted


@asynccontextmanager
async def _pipe() -> AsyncIterator[_Pipe]:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        page = Page()
        async with gateway_world(folder) as world, run_target(page) as port:
            pipe = _Pipe(world.log, page)
            page.body = lambda _: b"# TYPE milvus_temperature gauge\nmilvus_temperature %g\n" % pipe.value
            (folder / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
            (folder / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
            each_second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
            config = write_config(folder, world.url, **{"global": each_second}, scrape_configs=[static_job(port)])
            command = python("-m", "console", "collector", "run", "-c", str(config))
            refreshing = asyncio.create_task(world.identity.revocations.run())  # a stale list lets nobody in
            try:
                async with program("collector", command, folder, other_core(), is_heard=False):
                    await _until(lambda: page.scrapes >= 3)
                    yield pipe
            finally:
                refreshing.cancel()


async def _freshness(flips: int) -> list[float]:
    async with _pipe() as pipe, _alerts(pipe.log) as receiver:
        return await _flip_and_wait(receiver, pipe.flip, flips)


async def _queryable(flips: int) -> list[float]:
    """The head is fed from the log, as the rules' is; a scan of the lake sees a sample with its next commit."""
    expression, head, clock = parse_expression("milvus_temperature"), Head(HeadLimits()), SystemClock()
    seconds, dice = [], random.Random(3)

    async def feed(log: Log) -> None:
        reader = await log.reader("bench", [LIVE_TOPIC], since_ms=0)
        while True:
            for record in await reader.poll(1000, 1.0):
                head.ingest(record)

    def answer() -> list[float]:
        vector = evaluate(expression, head.source(ACME.organization), clock.now_ms())
        return [value for _, value in vector.elements()]

    async with _pipe() as pipe:
        feeding = asyncio.create_task(feed(pipe.log))
        try:
            await _until(lambda: answer() == [COLD])
            for number in range(flips):
                await asyncio.sleep(1.0 + dice.random())
                wanted, started = (COLD if number % 2 else HOT), time.monotonic()
                await pipe.flip(wanted)
                await _until(lambda wanted=wanted: answer() == [wanted])  # type: ignore[misc]
                seconds.append(time.monotonic() - started)
        finally:
            feeding.cancel()
    note(f"queryable: {statistics.median(seconds):.3f} s")
    return seconds


@asynccontextmanager
async def _alerts(log: Log) -> AsyncIterator[Receiver]:
    """The alert service running on a log, and its receiver."""
    receiver = await Receiver().start()
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        rules, path = Path(text) / "rules.yaml", Path(text) / "byoc.sqlite"
        rules.write_text(RULES)
        database = Database(sqlite_url(path))
        migrate(database)
        settings = AlertSettings.model_validate(
            {
                "rule_files": [rules],
                "builtin_rules": False,
                "receivers": [receiver_settings(receiver)],
                "allow_private_receivers": True,
            }
        )
        running = asyncio.create_task(AlertService(database, log, SystemClock(), settings).run())
        try:
            yield receiver
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            database.close()
            await receiver.stop()
    if receiver.bad_signatures:
        raise AssertionError(f"{len(receiver.bad_signatures)} webhooks with a wrong signature")


async def _flip_and_wait(receiver: Receiver, flip: Callable[[float], Awaitable[None]], flips: int) -> list[float]:
    """Flip up and down in turn, at moments that have nothing to do with the evaluation's second."""
    seconds, dice = [], random.Random(3)
    for number in range(flips):
        await asyncio.sleep(1.0 + dice.random())
        wanted, status = (COLD, "resolved") if number % 2 else (HOT, "firing")
        before = len(receiver.taken)
        started = time.monotonic()
        await flip(wanted)
        await _until(lambda before=before: len(receiver.taken) > before)  # type: ignore[misc]
        seconds.append(time.monotonic() - started)
        found = receiver.taken[-1].statuses
        if found != [(status, "Hot")]:
            raise AssertionError(f"expected {status}, received {found}")
        note(f"{status} after {seconds[-1]:.3f} s")
    return seconds


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        while not condition():  # noqa: ASYNC110 - a real server, polled
            await asyncio.sleep(0.005)
