"""From the flip of a metric to the webhook: the seconds until on-call is told.

`pages` begins where the vendor begins, at the append to the log. `freshness` begins at the target: its page shows
the new value, the collector's process scrapes each second and pushes over mutual TLS, the gateway appends. Rules
are evaluated each second; the receiver is a real HTTP server that checks the signature. All but the collector is
one process, with a log in memory and SQLite.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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
HOT, COLD = 35.0, 20.0
BUDGET = Budget(2.0)
MOST_SECONDS = 30.0


def pages(*, quick: bool, flips: int | None = None) -> Outcome:
    """p95 of the seconds from the append of a flipped sample to the webhook."""
    return _outcome("pages", asyncio.run(_pages(flips or (14 if quick else 60))), "append to the log")


def freshness(*, quick: bool, flips: int | None = None) -> Outcome:
    """p95 of the seconds from a flip on the target's page to the webhook."""
    return _outcome("freshness", asyncio.run(_freshness(flips or (10 if quick else 60))), "flip at the target")


def _outcome(name: str, seconds: list[float], start: str) -> Outcome:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    details = {
        "flips": len(seconds),
        "from": start,
        "median_seconds": round(statistics.median(seconds), 3),
        "most_seconds": round(max(seconds), 3),
        "all_seconds": [round(each, 3) for each in seconds],
    }
    return Outcome(name, "seconds to the webhook, 95th percentile", [p95], [], BUDGET, details)


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


async def _freshness(flips: int) -> list[float]:
    value = COLD
    page = Page(lambda _: b"# TYPE milvus_temperature gauge\nmilvus_temperature %g\n" % value)

    async def flip(wanted: float) -> None:
        nonlocal value
        value = wanted

    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        async with gateway_world(folder) as world, run_target(page) as port, _alerts(world.log) as receiver:
            (folder / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
            (folder / "token").write_text(world.identity.tokens.create(ACME, COLLECTOR))
            each_second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
            config = write_config(folder, world.url, **{"global": each_second}, scrape_configs=[static_job(port)])
            command = python("-m", "console", "collector", "run", "-c", str(config))
            refreshing = asyncio.create_task(world.identity.revocations.run())  # a stale list lets nobody in
            async with program("collector", command, folder, other_core(), is_heard=False):
                await _until(lambda: page.scrapes >= 3)
                try:
                    return await _flip_and_wait(receiver, flip, flips)
                finally:
                    refreshing.cancel()


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
