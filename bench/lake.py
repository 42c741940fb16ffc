"""Write rate and size of the lake, the size against Prometheus blocks of the same samples.

A log of pushes is drained into Parquet and commits; the rate is samples of one second of processor time, from the
log's records to the commit. `promtool` makes the blocks. Half of the series change from scrape to scrape.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.machine import measured_core, note, pinned
from bench.outcome import Budget, Outcome
from kernel.clock import SystemClock
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import DAY_MS, Window
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
    parse_canonical_labels,
)
from tests.services.process import find_program

T0 = 1_767_225_600_000
INTERVAL_MS = 15_000
PUSH_SAMPLES = 10_000
SIZE_BUDGET = Budget(0.3)
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
    samples_per_second: float
    scanned_per_second: float
    bytes_per_sample: float


def measure(*, quick: bool) -> Outcome:
    """Bytes of a sample against Prometheus blocks; `details` has the rate, which has a budget of its own."""
    size, runs = (_Size(20_000, 60), 2) if quick else (_Size(100_000, 120), 3)
    compared = _Size(5_000, 120) if quick else _Size(10_000, 240)
    with pinned(measured_core()):
        found = [_run(size) for _ in range(runs)]
        ours = [_run(compared).bytes_per_sample]
    rate = statistics.median(one.samples_per_cpu_second for one in found)
    return Outcome(
        "lake",
        "bytes per sample",
        ours,
        [_block_bytes_per_sample(compared)],
        SIZE_BUDGET,
        {
            "peer_is": "blocks of promtool tsdb create-blocks-from openmetrics",
            "samples_compared": compared.samples,
            "samples_per_cpu_second": round(rate),
            "samples_per_cpu_second_budget": RATE_BUDGET.limit,
            "samples_per_cpu_second_runs": [round(one.samples_per_cpu_second) for one in found],
            "samples_written": size.samples,
            "bytes_per_sample_of_these": round(found[0].bytes_per_sample, 3),
            "scanned_samples_per_second": round(statistics.median(one.scanned_per_second for one in found)),
        },
        extra_holds=RATE_BUDGET.holds(rate),
    )


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
    names = [_labels(number) for number in range(size.series)]
    number = 0
    for scrape, values in enumerate(_scrapes(size)):
        for start in range(0, size.series, PUSH_SAMPLES):
            number += 1
            part = slice(start, min(size.series, start + PUSH_SAMPLES))
            count = part.stop - start
            batch = SampleBatch(
                tuple(names[part]),
                np.arange(count, dtype=np.int32),
                np.full(count, T0 + scrape * INTERVAL_MS, np.int64),
                values[part].copy(),
            )
            header = BatchHeader(TENANT, CollectorId("col-a"), Lane.BILLING, T0, "0" * 64, Sequence(1, number))
            await writer.append(LIVE_TOPIC, [encode_record(header, batch)])


async def _write(log: MemoryLog, samples: int) -> _Found:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake = await Lake.open(
            f"sqlite:///{root}/catalog.db", str(root / "w"), LocalObjects(root / "o"), SystemClock()
        )
        writer = LakeWriter(lake, log, LakeSettings(commit_samples=2_000_000))
        wall, cpu = time.perf_counter(), time.process_time()
        stored = await writer.drain()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert stored == samples, (stored, samples)
        info = await lake.info()
        at = time.perf_counter()
        rows = (await lake.scan("acme", Window(T0, T0 + DAY_MS))).num_rows
        scan_seconds = time.perf_counter() - at
        assert rows == samples
        await lake.close()
    return _Found(samples / cpu, samples / wall, rows / scan_seconds, info.size_bytes / info.rows)


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
