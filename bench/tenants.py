"""What a hundred small tenants cost the lake: files a day for each, and how old samples are when they are there.

Each tenant has 300 series, scraped each 15 s, pushed at a second of its own. Time is virtual, work is real: the log
is in memory, the lake in a folder, small files are merged. The span has one end of an hour, after which a commit is
made early; that of the short form has none. Beside it the same with a commit each ten seconds whatever it holds.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.lake_load import INTERVAL_MS, SCRAPES_A_GROUP, T0, Size, labels_of, scrapes_of
from bench.machine import measured_core, note, pinned
from bench.outcome import Budget, Outcome
from collector.wire.frames import EntryTable, StreamEncoder, Tick, join_blocks
from kernel.clock import VirtualClock, from_ms
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import LogReader, LogWriter, Record
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import DAY_MS, HOUR_MS
from metering.lake.api import Lake
from metering.lake.flush import Flush
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    BatchHeader,
    Lane,
    RecordFormat,
    Sequence,
    record_key,
    render_header,
)

TENANTS, SERIES, PARTITIONS = 100, 300, 4
SECOND_MS = 1000
BUDGET = Budget(1000)  # of 5,760, which one for each scrape would be
OLDEST_SECONDS, HOUR_END_SECONDS = 120.0, 15.0
AS_BEFORE = LakeSettings(commit_seconds_most=1.0)


@dataclass(frozen=True)
class _Span:
    """Which part of a day is played."""

    start_ms: int
    seconds: int

    @property
    def scrapes(self) -> int:
        return self.seconds * SECOND_MS // INTERVAL_MS


@dataclass
class _Seen:
    """What the writer did after the first commits, which are early as each tenant is new, up to its last."""

    first_ms: int = 0
    last_ms: int = 0
    files: int = 0
    commits: int = 0
    cpu_seconds: float = 0.0
    ages: list[float] = field(default_factory=list)  # seconds from the log to the lake, of each push
    hour_end_ages: list[float] = field(default_factory=list)  # of those that completed an hour

    def a_day(self, figure: float) -> float:
        """Of so much in this time."""
        return figure * DAY_MS / (self.last_ms - self.first_ms)


class _Watched(LakeWriter):
    """Counts files at each commit."""

    def watch(self, seen: _Seen, clock: VirtualClock) -> None:
        self._seen, self._now, self._came, self._pushes = seen, clock, list[tuple[int, bool]](), 0

    async def opened(self) -> LogReader:
        """What it reads from."""
        return await self._open()

    def came(self, *, ends_an_hour: bool) -> None:
        """A push is in the log from now on."""
        self._came.append((self._now.now_ms(), ends_an_hour))
        self._pushes += 1

    async def due(self, reader: LogReader) -> None:
        """What `run` does at this second, without waiting for records."""
        cpu = time.process_time()
        while self._came and sum(pending.samples for pending in self._intake.pending.values()) < self._unstored:
            await self._turn(reader)
        if self._is_due():
            await self._turn(reader)
        if self._seen.first_ms:
            self._seen.cpu_seconds += time.process_time() - cpu

    @property
    def _unstored(self) -> int:
        return len(self._came) * SERIES

    async def _settle(self, reader: LogReader, flush: Flush) -> None:
        await super()._settle(reader, flush)
        seen, now_ms = self._seen, self._now.now_ms()
        seen.last_ms = now_ms
        if not seen.first_ms:
            seen.first_ms = now_ms if self._pushes >= 2 * TENANTS else 0
            self._came.clear()
            return
        seen.files += len(flush.sample_files)
        seen.commits += 1
        seen.ages += [(now_ms - at_ms) / SECOND_MS for at_ms, _ in self._came]
        seen.hour_end_ages += [(now_ms - at_ms) / SECOND_MS for at_ms, is_end in self._came if is_end]
        self._came.clear()


def measure(*, quick: bool) -> Outcome:
    """Files of samples of a tenant a day: a PUT each, and a share of a merge."""
    span = _Span(T0 + 5 * HOUR_MS // 60, 330) if quick else _Span(T0 + HOUR_MS // 2, 3720)
    before = _Span(T0 + 5 * HOUR_MS // 60, 60 if quick else 300)
    with pinned(measured_core()), tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        ours = asyncio.run(_play(span, LakeSettings(), _new(Path(folder) / "ours")))
        other = asyncio.run(_play(before, AS_BEFORE, _new(Path(folder) / "before")))
    ages = np.array(ours.ages)
    ends = ours.hour_end_ages
    return Outcome(
        "tenants",
        "files of samples of a small tenant a day",
        [ours.a_day(ours.files) / TENANTS],
        [],
        BUDGET,
        {
            "tenants": TENANTS,
            "series_of_each": SERIES,
            "commits_a_day": round(ours.a_day(ours.commits)),
            "seconds_from_log_to_lake": {
                "median": round(float(np.median(ages)), 1),
                "p95": round(float(np.quantile(ages, 0.95)), 1),
                "most": round(float(ages.max()), 1),
                "of_what_ends_an_hour": round(max(ends), 1) if ends else None,
            },
            "cpu_seconds_of_a_tenant_a_day": round(ours.a_day(ours.cpu_seconds) / TENANTS, 1),
            "each_ten_seconds": {
                "files_of_a_tenant_a_day": round(other.a_day(other.files) / TENANTS),
                "commits_a_day": round(other.a_day(other.commits)),
                "cpu_seconds_of_a_tenant_a_day": round(other.a_day(other.cpu_seconds) / TENANTS, 1),
            },
        },
        extra_holds=bool(ages.max() <= OLDEST_SECONDS) and all(age <= HOUR_END_SECONDS for age in ends),
    )


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _play(span: _Span, settings: LakeSettings, folder: Path) -> _Seen:
    clock, log, seen = VirtualClock(from_ms(span.start_ms)), MemoryLog(), _Seen()
    await log.ensure_topics({LIVE_TOPIC: PARTITIONS, HISTORY_TOPIC: 1})
    lake = await Lake.open(f"sqlite:///{folder}/catalog.db", str(folder / "w"), LocalObjects(folder / "o"), clock)
    writer = _Watched(lake, log, settings, clock)
    writer.watch(seen, clock)
    into, reader = await log.writer(), await writer.opened()
    every = INTERVAL_MS // SECOND_MS
    for scrape, body in enumerate(_bodies(span)):
        for second in range(every):
            for tenant in range(second, TENANTS, every):
                ends_an_hour = await _push(into, tenant, scrape, body, clock)
                writer.came(ends_an_hour=ends_an_hour and scrape > 0)
            await writer.due(reader)
            await clock.advance(1)
    await reader.close()
    await lake.close()
    note(f"tenants: {seen.files} files in {seen.commits} commits, {seen.cpu_seconds:.1f} s of processor time")
    return seen


async def _push(into: LogWriter, number: int, scrape: int, body: bytes, clock: VirtualClock) -> bool:
    """Append a push of a tenant; whether it is the first that is complete through another hour."""
    tenant = Tenant(OrganizationId(f"org-{number}"), ProjectId("prod"))
    now_ms = clock.now_ms()
    header = BatchHeader(
        tenant,
        CollectorId("col-a"),
        Lane.BILLING,
        now_ms,
        "0" * 64,
        Sequence(1, scrape + 1),
        complete_through_ms=now_ms,
        format=RecordFormat.FRAMES,
    )
    await into.append(LIVE_TOPIC, [Record(record_key(header), body, render_header(header, SERIES))])
    return now_ms // HOUR_MS > (now_ms - INTERVAL_MS) // HOUR_MS


def _bodies(span: _Span) -> Listed[bytes]:
    """A scrape of each, the same for all tenants."""
    table = EntryTable()
    born = table.take([b"\x02" + labels_of(number) for number in range(SERIES)])
    encoder, none = StreamEncoder(1, table), np.empty(0, np.int32)
    found = []
    for scrape, values in enumerate(scrapes_of(Size(SERIES, span.scrapes))):
        at_ms, group = span.start_ms + scrape * INTERVAL_MS, 1 + scrape // SCRAPES_A_GROUP
        tick = Tick(at_ms, values, None, none, none, none if scrape else born)
        found.append(join_blocks(group, encoder.encode(tick, group)))
    return found
