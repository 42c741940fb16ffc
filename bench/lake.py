"""Write rate and size of the lake: a log of pushes, drained into Parquet and commits.

The last line on stdout is one JSON object; progress goes to stderr. `ours` is samples a second of one core's CPU
time, from the log's records to the commit; `bytes_per_sample` the size of the data files. There is no peer here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kernel.clock import SystemClock
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.objects.local import LocalObjects
from kernel.window import Window
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
)

T0 = 1_767_225_600_000
INTERVAL_MS = 15_000
PUSH_SAMPLES = 10_000
BUDGET_SAMPLES_PER_SECOND = 10e6


def labels(number: int) -> bytes:
    pairs = {
        "__name__": f"milvus_metric_{number % 200}_total",
        "instance": f"10.0.{number % 40}.{number % 250}:9091",
        "cluster": f"c{number % 7}",
        "collection": f"collection_{number // 50}",
        "pod": f"querynode-{number % 13}",
    }
    return canonical_labels(pairs.items())


async def fill(log: MemoryLog, series: int, scrapes: int) -> int:
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    writer, generator = await log.writer(), np.random.default_rng(7)
    names = [labels(number) for number in range(series)]
    values = np.floor(generator.random(series) * 1e6)
    moving = generator.random(series) < 0.48  # the share that changes between two scrapes of a Milvus
    number = 0
    tenant = Tenant(OrganizationId("acme"), ProjectId("prod"))
    for scrape in range(scrapes):
        values = values + moving * generator.integers(0, 40, series)
        for start in range(0, series, PUSH_SAMPLES):
            number += 1
            part = slice(start, min(series, start + PUSH_SAMPLES))
            count = part.stop - start
            batch = SampleBatch(
                tuple(names[part]),
                np.arange(count, dtype=np.int32),
                np.full(count, T0 + scrape * INTERVAL_MS, np.int64),
                values[part].copy(),
            )
            header = BatchHeader(tenant, CollectorId("col-a"), Lane.LIVE, T0, "0" * 64, Sequence(1, number), None)
            await writer.append(LIVE_TOPIC, [encode_record(header, batch)])
    return series * scrapes


async def measure(log: MemoryLog, samples: int) -> dict[str, float]:
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
        rows = (await lake.scan("acme", Window(T0, T0 + 86_400_000))).num_rows
        scan_seconds = time.perf_counter() - at
        assert rows == samples
        await lake.close()
    return {
        "samples_per_cpu_second": samples / cpu,
        "samples_per_second": samples / wall,
        "bytes_per_sample": info.size_bytes / info.rows,
        "files": info.files,
        "scanned_samples_per_second": rows / scan_seconds,
    }


async def main(series: int, scrapes: int, runs: int) -> None:
    found = []
    for run in range(runs):
        log = MemoryLog()  # a new one: the group's members and positions belong to a run
        samples = await fill(log, series, scrapes)
        found.append(await measure(log, samples))
        print(f"run {run + 1}: {found[-1]}", file=sys.stderr)
    ours = statistics.median(each["samples_per_cpu_second"] for each in found)
    result = {
        "name": "lake",
        "unit": "samples per CPU second written",
        "ours": round(ours),
        "peer": None,
        "ratio": None,
        "budget": BUDGET_SAMPLES_PER_SECOND,
        "holds": ours >= BUDGET_SAMPLES_PER_SECOND,
        "bytes_per_sample": round(statistics.median(each["bytes_per_sample"] for each in found), 3),
        "scanned_samples_per_second": round(
            statistics.median(each["scanned_samples_per_second"] for each in found)
        ),
        "samples": samples,
        "machine": f"{platform.machine()} {platform.python_version()}",
        "runs": [round(each["samples_per_cpu_second"]) for each in found],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    asyncio.run(main(20_000, 60, 2) if quick else main(100_000, 120, 3))
