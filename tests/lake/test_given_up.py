"""Numbers that a collector gave up: the watermark passes them at once, and their time is missing from the hour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from console.migrate import migrate
from kernel.clock import VirtualClock, from_ms
from kernel.database import Database, sqlite_url
from kernel.ids import OrganizationId
from kernel.log import Log, Record
from kernel.window import HOUR_MS, Window
from metering.gaps import GivenUp, encode_gaps
from metering.record import LIVE_TOPIC, RecordFormat, record_key, render_header
from metering.usage.closer import HourCloser
from metering.usage.lake_source import LakeSource
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore
from tests.lake.setting import T0, Push, append, memory_log, open_lake, writer_of
from tests.usage.scrapes import gauge, scrape

MINUTE = 60_000
ACME = OrganizationId("acme")
LOST = range(20, 30)


def push(minute: int) -> Push:
    """The scrape of a minute, with the promise that all before it was sent."""
    at_ms = T0 + minute * MINUTE
    rows = [(row.labels, row.at_ms, row.value) for row in (gauge(at_ms, 4.0), scrape(at_ms))]
    return Push(rows, number=minute + 1, complete_through_ms=at_ms)


async def give_up(log: Log, value: bytes) -> None:
    header = replace(push(LOST[0]).header(), format=RecordFormat.GAPS, complete_through_ms=None)
    writer = await log.writer()
    await writer.append(LIVE_TOPIC, [Record(record_key(header), value, render_header(header, 0))])
    await writer.close()


async def test_the_watermark_passes_them_at_once_and_their_time_is_missing(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    writer = writer_of(lake, log)
    database = Database(sqlite_url(tmp_path / "usage.sqlite"))
    migrate(database)
    store = UsageStore(database)
    settings = UsageSettings(close_deadline_seconds=100 * 24 * 3600)
    source = LakeSource(lake, 86_400.0)
    closer = HourCloser(source, store, settings, VirtualClock(from_ms(T0 + 2 * HOUR_MS)))
    await append(log, [push(minute) for minute in range(61) if minute not in LOST])
    await writer.drain()
    assert await source.watermark(ACME) == T0 + (LOST[0] - 1) * MINUTE
    assert await closer.close_due(ACME) == 0, "an hour was closed over a hole that may still be filled"

    notice = encode_gaps([GivenUp(LOST[0] + 1, LOST[-1] + 1, "quota")])
    for _ in range(2):  # a notice may come again
        await give_up(log, notice)
        await writer.drain()
        assert await source.watermark(ACME) == T0 + HOUR_MS
        info = await lake.info()
        assert (info.missing_pushes, info.given_up) == (len(LOST), {"quota": len(LOST)})
    assert await closer.close_due(ACME) == 1
    (row,) = store.month(ACME, Window(T0, T0 + HOUR_MS)).rows
    held_ms = (LOST[0] - 1) * MINUTE + round(settings.staleness_limit_seconds * 1000)
    assert row.observed_ms == held_ms + (60 - LOST[-1] - 1) * MINUTE
    assert row.missing_ms == HOUR_MS - row.observed_ms > 0
    assert row.milli_vcpu_ms == 4000 * row.observed_ms

    await append(log, [push(LOST[3])])  # it was on its way when it was given up
    await writer.drain()
    assert (await lake.info()).missing_pushes == len(LOST) - 1
    assert await closer.close_due(ACME) == 1, "what comes all the same is a revision"
    await lake.close()
    database.close()


async def test_a_record_of_gaps_that_can_not_be_read_is_put_aside_and_stops_nothing(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    for value in (b"", b"[[1]]", b'[[2,1,"quota"]]', b"{}1"):
        await give_up(log, value)
    await append(log, [push(0)])
    writer = writer_of(lake, log)
    assert await writer.drain() == 2
    assert (await lake.info()).given_up == {}
    await lake.close()
