"""Hourly licence usage from the lake, against plain DuckDB SQL over the same Parquet files.

Ours reads, computes, seals and stores the hours; the SQL computes the same integrals and stores nothing. Both may
use every core. Every figure of every hour is compared before a time counts. The full form is of the budget's own
size: 31 days of 300 series at 15 s, 53.6 million samples, three runs of ours (the first also loads the libraries
that read the lake; the middle one is the figure) and one of the peer, whose windows take some 4 GB of memory.
`--quick` is a day.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from bench.machine import note
from bench.outcome import Budget, Outcome
from console.migrate import migrate
from kernel.clock import SystemClock
from kernel.database import Database, sqlite_url
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    BatchHeader,
    Lane,
    SampleBatch,
    Sequence,
    canonical_labels,
    encode_record,
    series_id,
)
from metering.usage.api import HourCloser, LakeSource, UsageSettings, UsageStore

ACME = OrganizationId("acme")
TENANT = Tenant(ACME, ProjectId("prod"))
T0 = 1_767_225_600_000
INTERVAL_MS = 15_000
LIMIT_MS = 300_000
COMPONENTS = ("query", "milvus", "index")
TARGET_SAMPLES = 52_000_000
TARGET_SECONDS = 8.0
FULL_DAYS = 31
PUSH_SCRAPES = 40
BUDGET = Budget(0.37)

Figures = dict[tuple[str, str, int], tuple[int, int, int]]  # cluster, component, hour: integral, observed, peak

SQL = """
WITH samples AS (
  SELECT series_id, timestamp_ms, coalesce(value, CAST(reference + delta AS DOUBLE) / power(10, scale)) AS value
  FROM read_parquet({files})
), gauge AS (
  SELECT cluster, component, timestamp_ms AS at_ms, CAST(round(value * 1000) AS BIGINT) AS level,
         least(timestamp_ms + {limit}, coalesce(
           lead(timestamp_ms) OVER (PARTITION BY series_id ORDER BY timestamp_ms), timestamp_ms + {limit}
         )) AS until_ms
  FROM samples JOIN labels USING (series_id)
), parts AS (
  SELECT cluster, component, level, at_ms, until_ms,
         unnest(generate_series(at_ms // {hour} * {hour}, (until_ms - 1) // {hour} * {hour}, {hour})) AS hour_ms
  FROM gauge
)
SELECT cluster, component, hour_ms,
       sum(level * (least(until_ms, hour_ms + {hour}) - greatest(at_ms, hour_ms))) AS integral,
       sum(least(until_ms, hour_ms + {hour}) - greatest(at_ms, hour_ms)) AS observed, max(level) AS peak
FROM parts WHERE hour_ms < {end} GROUP BY ALL
"""


@dataclass(frozen=True)
class _Size:
    clusters: int
    days: int

    @property
    def series(self) -> int:
        return self.clusters * len(COMPONENTS)

    @property
    def samples(self) -> int:
        return self.series * self.days * (DAY_MS // INTERVAL_MS)

    @property
    def window(self) -> Window:
        return Window(T0, T0 + self.days * DAY_MS)


@dataclass(frozen=True)
class Spent:
    """How long it took, and what it took of all cores (user and system)."""

    seconds: float
    core_seconds: float

    @classmethod
    def since(cls, started: Spent) -> Spent:
        return cls(time.perf_counter() - started.seconds, time.process_time() - started.core_seconds)

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.core_seconds:.2f} of a core)"


def measure(*, quick: bool, clusters: int | None = None) -> Outcome:
    """Seconds for the samples at hand; the full form has the budget's 52 million, and its seconds must hold too."""
    size = _Size(clusters or 100, 1 if quick else FULL_DAYS)
    return asyncio.run(_measure(size, runs=3))


async def _measure(size: _Size, runs: int) -> Outcome:
    ours: list[Spent] = []
    peer: list[Spent] = []
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        lake = await _fill(folder, size)
        files = [file.location.removeprefix("file://") for file in await lake.files(size.window, ACME)]
        note(f"usage: the lake holds {size.samples} samples of {size.series} series")
        for run in range(runs):
            spent, figures = await _ours(lake, folder / f"usage-{run}.sqlite", size)
            ours.append(spent)
            if run == 0 or size.days == 1:
                spent, expected = await asyncio.to_thread(_peer, files, size)
                peer.append(spent)
            if figures != expected or not figures:
                raise AssertionError(f"{len(figures)} figures of ours differ from the {len(expected)} of DuckDB")
            note(f"usage: ours {ours[-1]}, DuckDB {peer[-1]}, {len(figures)} equal figures")
        await lake.close()
    scale = TARGET_SAMPLES / size.samples
    wall = [each.seconds for each in ours], [each.seconds for each in peer]
    seconds = statistics.median(wall[0]) * scale
    cores = [statistics.median(each.core_seconds for each in runs) for runs in (ours, peer)]
    return Outcome(
        "usage",
        "seconds",
        *wall,
        BUDGET,
        {
            "peer_is": "DuckDB SQL over the same files",
            "samples": size.samples,
            "equal_figures": len(figures),
            "core_seconds": round(cores[0], 2),
            "peer_core_seconds": round(cores[1], 2),
            "core_ratio": round(cores[0] / cores[1], 3),
            "seconds_of_52_million": round(seconds, 2),
            "core_seconds_of_52_million": round(cores[0] * scale, 2),
            "peer_seconds_of_52_million": round(statistics.median(wall[1]) * scale, 2),
            "is_measured_at_that_size": scale <= 1,
        },
        extra_holds=scale > 1 or seconds <= TARGET_SECONDS,
    )


async def _fill(folder: Path, size: _Size) -> Lake:
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    writer = await log.writer()
    series = [labels_of(number) for number in range(size.series)]
    generator = np.random.default_rng(11)
    levels = generator.integers(1, 64, size.series)
    step = PUSH_SCRAPES * INTERVAL_MS
    index = np.tile(np.arange(size.series, dtype=np.int32), PUSH_SCRAPES)
    for number, start_ms in enumerate(range(size.window.start_ms, size.window.end_ms, step), 1):
        changed = generator.random(size.series) < 0.02  # a scale-up or -down now and then, in quarters of a vCPU
        levels = np.where(changed, generator.integers(1, 64, size.series), levels)
        times = np.repeat(np.arange(start_ms, start_ms + step, INTERVAL_MS), size.series) + index % 97
        values = np.tile(levels / 4, PUSH_SCRAPES)
        batch = SampleBatch(tuple(series), index, times.astype(np.int64), values)
        header = BatchHeader(TENANT, CollectorId("col-a"), Lane.HISTORY, T0, "0" * 64, Sequence(1, number))
        await writer.append(HISTORY_TOPIC, [encode_record(header, batch)])
    lake = await Lake.open(
        sqlite_url(folder / "catalog.sqlite"), str(folder / "lake"), LocalObjects(folder / "objects"), SystemClock()
    )
    stored = await LakeWriter(lake, log, LakeSettings(commit_samples=2_000_000)).drain()
    assert stored == size.samples, (stored, size.samples)
    return lake


def labels_of(number: int) -> bytes:
    """Of a gauge: three components of each cluster, one cluster after the other."""
    cluster, component = divmod(number, len(COMPONENTS))
    pairs = {
        "__name__": "byoc_component_allocated_vcpu",
        "cluster": f"cluster-{cluster}",
        "component": COMPONENTS[component],
        "instance": "127.0.0.1:9000",
        "job": "byoc",
    }
    return canonical_labels(pairs.items())


async def _ours(lake: Lake, path: Path, size: _Size) -> tuple[Spent, Figures]:
    database = Database(sqlite_url(path))
    migrate(database)
    store = UsageStore(database)
    settings = UsageSettings(staleness_limit_seconds=LIMIT_MS / 1000)
    closer = HourCloser(LakeSource(lake, 86_400.0), store, settings, lake.clock)
    started = Spent.now()
    await closer.close_window(ACME, size.window)
    spent = Spent.since(started)
    rows = store.month(ACME, size.window).rows
    database.close()
    return spent, {
        (row.cluster, row.component, row.hour.start_ms): (row.milli_vcpu_ms, row.observed_ms, row.peak_milli_vcpu)
        for row in rows
    }


def _peer(files: list[str], size: _Size) -> tuple[Spent, Figures]:
    """The labels are given to it as a table: taking the canonical bytes apart is no work for SQL."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE labels (series_id BLOB, cluster VARCHAR, component VARCHAR)")
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?)", _identities(size))
        query = SQL.format(files=files, limit=LIMIT_MS, hour=HOUR_MS, end=size.window.end_ms)
        started = Spent.now()
        found = connection.execute(query).fetchall()
        spent = Spent.since(started)
    return spent, {(row[0], row[1], row[2]): (int(row[3]), int(row[4]), int(row[5])) for row in found}


def _identities(size: _Size) -> list[tuple[bytes, str, str]]:
    return [
        (
            series_id(TENANT, CollectorId("col-a"), labels_of(number)),
            f"cluster-{number // len(COMPONENTS)}",
            COMPONENTS[number % len(COMPONENTS)],
        )
        for number in range(size.series)
    ]
