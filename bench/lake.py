"""Write rate and size of the lake, the size against Prometheus blocks of the same samples.

A log of frames is drained into Parquet and commits, then the files are merged. Rates are samples of one second of
processor time: from the log's records to the commit, and of the write alone (order, encode, store, commit), after
the first commit, which has to learn all series. `promtool` makes the blocks. Half of the series change each time.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.machine import measured_core, note, pinned
from bench.outcome import Budget, Outcome
from collector.wire.frames import MAX_BODY_BYTES, Block, EntryTable, StreamEncoder, Tick, join_blocks
from kernel.clock import SystemClock
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import LogReader, Record
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import DAY_MS, Window
from metering.lake.api import Lake
from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    BatchHeader,
    Lane,
    RecordFormat,
    Sequence,
    canonical_labels,
    parse_canonical_labels,
    record_key,
    render_header,
)
from tests.services.process import find_program

T0 = 1_767_225_600_000
INTERVAL_MS = 15_000
AN_HOUR = 3_600_000 // INTERVAL_MS  # scrapes
SCRAPES_A_GROUP = 120
COMMIT_SAMPLES = LakeSettings().commit_samples
SIZE_BUDGET = Budget(0.3)
BYTES_BUDGET = Budget(1.1)
RATE_BUDGET = Budget(10e6, is_at_most=False)
TENANT = Tenant(OrganizationId("acme"), ProjectId("prod"))


@dataclass(frozen=True)
class _Size:
    series: int
    scrapes: int

    @property
    def samples(self) -> int:
        return self.series * self.scrapes


@dataclass(frozen=True)
class _Found:
    samples_per_cpu_second: float
    written_per_cpu_second: float
    merged_per_cpu_second: float
    scanned_per_second: float
    fresh_bytes_per_sample: float
    bytes_per_sample: float


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
    size, runs = (_Size(20_000, 200), 2) if quick else (_Size(100_000, 200), 3)
    # The lake merges a day; the peer's blocks are of two hours each.
    compared = _Size(1_000, 6 * AN_HOUR) if quick else _Size(1_000, 24 * AN_HOUR)
    with pinned(measured_core()):
        found = [_run(size) for _ in range(runs)]
        same = _run(compared)  # its rates are of one commit, and left alone
    rate = statistics.median(one.samples_per_cpu_second for one in found)
    return Outcome(
        "lake",
        "bytes per sample",
        [same.bytes_per_sample],
        [_block_bytes_per_sample(compared)],
        SIZE_BUDGET,
        {
            "peer_is": "blocks of promtool tsdb create-blocks-from openmetrics",
            "samples_compared": compared.samples,
            "hours_compared": compared.scrapes // AN_HOUR,
            "bytes_per_sample_budget": BYTES_BUDGET.limit,
            "fresh_bytes_per_sample": round(same.fresh_bytes_per_sample, 3),
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
        extra_holds=RATE_BUDGET.holds(rate) and BYTES_BUDGET.holds(same.bytes_per_sample),
    )


def written_of_a_core(series: int, scrapes: int) -> float:
    """Samples written in a second of processor time."""
    with pinned(measured_core()):
        return _run(_Size(series, scrapes)).written_per_cpu_second


def _median(found: list[_Found], name: str) -> int:
    figures: list[float] = [getattr(one, name) for one in found]
    return round(statistics.median(figures))


def _run(size: _Size) -> _Found:
    async def fill_and_write() -> _Found:
        log = MemoryLog()  # a new one: the group's members and positions belong to a run
        await _fill(log, size)
        return await _write(log, size.samples)

    found = asyncio.run(fill_and_write())
    note(f"lake: {size}: {found}")
    return found


def _labels(number: int) -> bytes:
    pairs = {
        "__name__": f"milvus_metric_{number % 200}_total",
        "instance": f"10.0.{number % 40}.{number % 250}:9091",
        "cluster": f"c{number % 7}",
        "collection": f"collection_{number // 50}",
        "pod": f"querynode-{number % 13}",
    }
    return canonical_labels(pairs.items())


def _scrapes(size: _Size) -> Iterator[npt.NDArray[np.float64]]:
    """The values of all series, scrape by scrape: 48 % move between two, as in a Milvus."""
    generator = np.random.default_rng(7)
    values = np.floor(generator.random(size.series) * 1e6)
    moving = generator.random(size.series) < 0.48
    for _ in range(size.scrapes):
        values = values + moving * generator.integers(0, 40, size.series)
        yield values


async def _fill(log: MemoryLog, size: _Size) -> None:
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    writer = await log.writer()
    table = EntryTable()
    born = table.take([b"\x02" + _labels(number) for number in range(size.series)])
    encoder, none = StreamEncoder(1, table), np.empty(0, np.int32)
    number = 0
    for scrape, values in enumerate(_scrapes(size)):
        tick = Tick(T0 + scrape * INTERVAL_MS, values, None, none, none, none if scrape else born)
        group = 1 + scrape // SCRAPES_A_GROUP
        for body in _bodies(group, encoder.encode(tick, group)):
            number += 1
            header = BatchHeader(
                TENANT,
                CollectorId("col-a"),
                Lane.BILLING,
                T0,
                "0" * 64,
                Sequence(1, number),
                format=RecordFormat.FRAMES,
            )
            await writer.append(LIVE_TOPIC, [Record(record_key(header), body, render_header(header, 0))])


def _bodies(group: int, blocks: Listed[Block]) -> Iterator[bytes]:
    taken: list[Block] = []
    for block in blocks:
        if taken and sum(len(each.content) for each in [*taken, block]) > MAX_BODY_BYTES - 1000:
            yield join_blocks(group, taken)
            taken = []
        taken.append(block)
    yield join_blocks(group, taken)


async def _write(log: MemoryLog, samples: int) -> _Found:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake = await Lake.open(
            f"sqlite:///{root}/catalog.db", str(root / "w"), LocalObjects(root / "o"), SystemClock()
        )
        settings = LakeSettings(commit_samples=COMMIT_SAMPLES)
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
        at = time.perf_counter()
        assert (await lake.scan("acme", Window(T0, T0 + DAY_MS))).num_rows == info.rows == samples
        scan_seconds = time.perf_counter() - at
        await lake.close()
    return _Found(
        samples_per_cpu_second=_rate(last - first, cpu_end - cpu),
        written_per_cpu_second=_rate(last - first, writing_end - writing),
        merged_per_cpu_second=_rate(merged, merging),
        scanned_per_second=samples / scan_seconds,
        fresh_bytes_per_sample=fresh.size_bytes / samples,
        bytes_per_sample=info.size_bytes / samples,
    )


def _rate(samples: int, seconds: float) -> float:
    return samples / seconds if samples else 0.0


def _block_bytes_per_sample(size: _Size) -> float:
    """The same samples as blocks: chunks, index and all. Raises ServiceUnavailable."""
    program = find_program("promtool", how_to_get="apt-get install prometheus")
    table = np.column_stack(list(_scrapes(size))).tolist()
    times = [f" {(T0 + scrape * INTERVAL_MS) // 1000}\n" for scrape in range(size.scrapes)]
    heads = sorted((_open_metrics_head(number), number) for number in range(size.series))
    with tempfile.TemporaryDirectory() as folder:
        source, blocks = Path(folder) / "samples.om", Path(folder) / "blocks"
        with source.open("w") as file:
            for head, number in heads:
                file.write(
                    "".join(f"{head}{value:.0f}{at}" for value, at in zip(table[number], times, strict=True))
                )
            file.write("# EOF\n")
        command = [program, "tsdb", "create-blocks-from", "openmetrics", "-q", str(source), str(blocks)]
        subprocess.run(command, check=True, capture_output=True)
        found = sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())
    note(f"lake: Prometheus blocks: {found / size.samples:.3f} bytes per sample")
    return found / size.samples


def _open_metrics_head(number: int) -> str:
    labels = dict(parse_canonical_labels(_labels(number)))
    name = labels.pop("__name__")
    return name + "{" + ",".join(f'{key}="{text}"' for key, text in labels.items()) + "} "
