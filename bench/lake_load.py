"""What the lake is measured with: a log of frames, and the same samples as Prometheus blocks."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.machine import note
from collector.wire.frames import MAX_BODY_BYTES, Block, EntryTable, StreamEncoder, Tick, join_blocks
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import Record
from kernel.log.memory import MemoryLog
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
TENANT = Tenant(OrganizationId("acme"), ProjectId("prod"))


@dataclass(frozen=True)
class Size:
    series: int
    scrapes: int

    @property
    def samples(self) -> int:
        return self.series * self.scrapes


def labels_of(number: int) -> bytes:
    pairs = {
        "__name__": f"milvus_metric_{number % 200}_total",
        "instance": f"10.0.{number % 40}.{number % 250}:9091",
        "cluster": f"c{number % 7}",
        "collection": f"collection_{number // 50}",
        "pod": f"querynode-{number % 13}",
    }
    return canonical_labels(pairs.items())


def scrapes_of(size: Size) -> Iterator[npt.NDArray[np.float64]]:
    """The values of all series, scrape by scrape: 48 % move between two, as in a Milvus."""
    generator = np.random.default_rng(7)
    values = np.floor(generator.random(size.series) * 1e6)
    moving = generator.random(size.series) < 0.48
    for _ in range(size.scrapes):
        values = values + moving * generator.integers(0, 40, size.series)
        yield values


async def fill(log: MemoryLog, size: Size) -> None:
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    writer = await log.writer()
    table = EntryTable()
    born = table.take([b"\x02" + labels_of(number) for number in range(size.series)])
    encoder, none = StreamEncoder(1, table), np.empty(0, np.int32)
    number = 0
    for scrape, values in enumerate(scrapes_of(size)):
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


def block_bytes_per_sample(size: Size) -> float:
    """The same samples as blocks: chunks, index and all. Raises ServiceUnavailable."""
    program = find_program("promtool", how_to_get="apt-get install prometheus")
    table = np.column_stack(list(scrapes_of(size))).tolist()
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
    labels = dict(parse_canonical_labels(labels_of(number)))
    name = labels.pop("__name__")
    return name + "{" + ",".join(f'{key}="{text}"' for key, text in labels.items()) + "} "
