"""Write rate and size of the lake, the size against Prometheus blocks of the same samples.

A log of frames is drained into Parquet and commits, then the files are merged. Rates are samples of one second of
processor time: from the log's records to the commit, and of the write alone (order, encode, store, commit), after
the first commit, which has to learn all series. Half of the series change each time. Sizes are of files that were
merged from sixteen: `promtool` makes blocks of the same samples, of two hours each, with their index. The full form
also compares a day, and a tenant of 100,000 series whose full files became stretches of ids; beside that the peer
has a twentieth of the series, as its bytes a sample do not depend on how many there are.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.lake_load import AN_HOUR, T0, Size, block_bytes_per_sample, fill
from bench.machine import measured_core, note, pinned
from bench.outcome import Budget, Outcome
from kernel.clock import SystemClock
from kernel.log import LogReader
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import DAY_MS, Window
from metering.lake.api import Lake
from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter

COMMIT_SAMPLES = LakeSettings().commit_samples
MOST_SCANNED = 25_000_000  # as a scan is held in memory
FILES_MERGED = LakeSettings().compact_files
SIZE_BUDGET = Budget(0.3)
BYTES_BUDGET = Budget(1.1)
RATE_BUDGET = Budget(10e6, is_at_most=False)


@dataclass(frozen=True)
class _Compared:
    """Merged files beside blocks; the peer may have fewer series of as many samples each."""

    size: Size
    peer_series: int

    def measure(self) -> tuple[float, float]:
        """Bytes of a sample, ours and the peer's."""
        ours = _run(self.size, commit_samples=self.size.samples // FILES_MERGED).bytes_per_sample
        return ours, block_bytes_per_sample(Size(self.peer_series, self.size.scrapes))


@dataclass(frozen=True)
class _Found:
    samples_per_cpu_second: float
    written_per_cpu_second: float
    merged_per_cpu_second: float
    scanned_per_second: float
    fresh_bytes_per_sample: float
    bytes_per_sample: float


TWO_HOURS = _Compared(Size(1_000, 2 * AN_HOUR), 1_000)
A_DAY = _Compared(Size(1_000, 24 * AN_HOUR), 1_000)
STRETCHED = _Compared(Size(100_000, 640), 5_000)  # sixteen files of over 4 million: full, so nothing else is merged


class _TimedWriter(LakeWriter):
    """Notes the processor time at each commit, and how much of it went into writing."""

    def __init__(self, lake: Lake, log: MemoryLog, settings: LakeSettings) -> None:
        super().__init__(lake, log, settings)
        self.commits: list[tuple[int, float, float]] = []  # samples, processor seconds, those of writing
        self._writing = 0.0

    async def _store(self, reader: LogReader) -> None:
        started = time.process_time()
        await super()._store(reader)
        now = time.process_time()
        self._writing += now - started
        self.commits.append((self._stored, now, self._writing))


def measure(*, quick: bool) -> Outcome:
    """Bytes of a sample against Prometheus blocks; `details` has the rates, which have a budget of their own."""
    size, runs = (Size(20_000, 200), 2) if quick else (Size(100_000, 200), 3)
    with pinned(measured_core()):
        found = [_run(size) for _ in range(runs)]
        compared = {"2 h": TWO_HOURS.measure()}
        if not quick:
            compared |= {"24 h": A_DAY.measure(), "100,000 series, stretched": STRETCHED.measure()}
    rate = statistics.median(one.samples_per_cpu_second for one in found)
    ours, peer = max(compared.values(), key=lambda each: each[0] / each[1])
    return Outcome(
        "lake",
        "bytes per sample",
        [ours],
        [peer],
        SIZE_BUDGET,
        {
            "peer_is": "blocks of promtool tsdb create-blocks-from openmetrics; the worst ratio is shown",
            "compared": {name: _shown(*each) for name, each in compared.items()},
            "bytes_per_sample_budget": BYTES_BUDGET.limit,
            "samples_per_second_of_a_core_budget": RATE_BUDGET.limit,
            "from_log_to_commit_per_cpu_second": round(rate),
            "from_log_to_commit_per_cpu_second_runs": [round(one.samples_per_cpu_second) for one in found],
            "written_per_cpu_second": _median(found, "written_per_cpu_second"),
            "merged_per_cpu_second": _median(found, "merged_per_cpu_second"),
            "scanned_samples_per_second": _median(found, "scanned_per_second"),
            "series": size.series,
            "samples_written": size.samples,
            "bytes_per_sample_of_these": round(found[0].bytes_per_sample, 3),
            "fresh_bytes_per_sample_of_these": round(found[0].fresh_bytes_per_sample, 3),
        },
        extra_holds=RATE_BUDGET.holds(rate) and all(BYTES_BUDGET.holds(each) for each, _ in compared.values()),
    )


def _shown(ours: float, peer: float) -> dict[str, float]:
    return {"ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ours / peer, 4)}


def written_of_a_core(series: int, scrapes: int) -> float:
    """Samples written in a second of processor time."""
    with pinned(measured_core()):
        return _run(Size(series, scrapes)).written_per_cpu_second


def _median(found: list[_Found], name: str) -> int:
    figures: list[float] = [getattr(one, name) for one in found]
    return round(statistics.median(figures))


def _run(size: Size, commit_samples: int = COMMIT_SAMPLES) -> _Found:
    async def fill_and_write() -> _Found:
        log = MemoryLog()  # a new one: the group's members and positions belong to a run
        await fill(log, size)
        return await _write(log, size.samples, commit_samples)

    found = asyncio.run(fill_and_write())
    note(f"lake: {size}: {found}")
    return found


async def _write(log: MemoryLog, samples: int, commit_samples: int) -> _Found:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake = await Lake.open(
            f"sqlite:///{root}/catalog.db", str(root / "w"), LocalObjects(root / "o"), SystemClock()
        )
        settings = LakeSettings(commit_samples=commit_samples)
        writer = _TimedWriter(lake, log, settings)
        assert await writer.drain() == samples
        (first, cpu, writing), (last, cpu_end, writing_end) = writer.commits[0], writer.commits[-1]
        fresh = await lake.info()
        merging = time.process_time()
        compactor = Compactor(lake.places, settings)
        merged = 0
        while done := await compactor.compact_one(2):
            merged += done.rows
        merging = time.process_time() - merging
        info = await lake.info()
        assert info.rows == samples
        scan_seconds = await _scan(lake, samples) if samples <= MOST_SCANNED else math.inf
        await lake.close()
    return _Found(
        samples_per_cpu_second=_rate(last - first, cpu_end - cpu),
        written_per_cpu_second=_rate(last - first, writing_end - writing),
        merged_per_cpu_second=_rate(merged, merging),
        scanned_per_second=samples / scan_seconds,
        fresh_bytes_per_sample=fresh.size_bytes / samples,
        bytes_per_sample=info.size_bytes / samples,
    )


async def _scan(lake: Lake, samples: int) -> float:
    """Seconds in which all is read."""
    started = time.perf_counter()
    assert (await lake.scan("acme", Window(T0, T0 + DAY_MS))).num_rows == samples
    return time.perf_counter() - started


def _rate(samples: int, seconds: float) -> float:
    return samples / seconds if samples else 0.0
