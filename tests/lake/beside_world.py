"""Pushes with more than samples: histograms, exemplars, metadata and starts, as the gateway writes them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from collector.wire.varint import varint
from kernel.ids import CollectorId, Tenant
from kernel.log import Log, Record
from kernel.window import Window
from metering.lake.api import Lake
from metering.record import BatchHeader, Lane, canonical_labels, encode_samples
from metering.record import Sequence as Number
from metering.samples import ExemplarRow, HistogramRow, Metadata, SampleColumns, make_page
from tests.lake.setting import ACME, T0, gauge

WEEK = Window(T0, T0 + 7 * 86_400_000)


def field(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + content


def message(at_ms: int, count: int = 3, total: float = 4.5) -> bytes:
    """A native histogram with one span of one bucket."""
    span, delta = field(2, 0, varint(1)), varint(2 * count)
    return b"".join(
        [
            field(1, 0, varint(count)),
            field(3, 1, struct.pack("<d", total)),
            field(11, 2, varint(len(span)) + span),
            field(12, 2, varint(len(delta)) + delta),
            field(15, 0, varint(at_ms)),
        ]
    )


@dataclass(frozen=True)
class Told:
    """One push about one series; `number` None is a foreign sender's."""

    name: str
    at_ms: int
    value: float = 1.0
    start_ms: int = 0
    histogram: int | None = None  # its count
    exemplar: tuple[bytes, float] | None = None
    family: Metadata | None = None
    number: int | None = None
    tenant: Tenant = ACME
    collector: str = "col-a"
    received_ms: int = T0

    def record(self) -> Record:
        header = BatchHeader(
            self.tenant,
            CollectorId(self.collector),
            Lane.BILLING,
            self.received_ms,
            "0" * 64,
            None if self.number is None else Number(1, self.number),
        )
        columns = SampleColumns(
            (make_page([canonical_labels(gauge(self.name))]),),
            np.zeros(1, np.int32),
            np.array([self.at_ms], np.int64),
            np.array([self.value]),
            np.array([self.start_ms], np.int64) if self.start_ms else None,
            () if self.histogram is None else (HistogramRow(0, message(self.at_ms, self.histogram)),),
            () if self.exemplar is None else (ExemplarRow(0, self.exemplar[1], self.at_ms, self.exemplar[0]),),
            () if self.family is None else (self.family,),
        )
        return encode_samples(header, columns)


async def append(log: Log, pushes: Sequence[Told]) -> None:
    writer = await log.writer()
    for push in pushes:
        await writer.append("byoc.samples", [push.record()])
    await writer.close()


async def all_beside(lake: Lake, organization: str = "acme") -> dict[str, list[dict[str, Any]]]:
    """Everything that readers are given."""
    tables = {
        "histograms": await lake.histograms(organization, WEEK),
        "exemplars": await lake.exemplars(organization, WEEK),
        "starts": await lake.starts(organization, WEEK),
        "metadata": await lake.metadata(organization),
    }
    return {name: table.to_pylist() for name, table in tables.items()}


async def stored_counts(lake: Lake) -> dict[str, int]:
    """Rows in the files, twice those that a crash left twice."""
    return dict((await lake.info()).beside)
