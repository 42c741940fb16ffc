"""A lake in a folder, a log in memory, and pushes to put into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from kernel.clock import Clock, VirtualClock
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import Log, Record
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
    LabelSet,
    Lane,
    SampleBatch,
    encode_record,
    make_batch,
)
from metering.record import (
    Sequence as PushNumber,
)

ACME = Tenant(OrganizationId("acme"), ProjectId("prod"))
OTHER = Tenant(OrganizationId("org-b"), ProjectId("main"))
T0 = 1_767_225_600_000  # 2026-01-01T00:00Z, the start of VirtualClock
DAY = Window(T0, T0 + 86_400_000)
Row = tuple[LabelSet, int, float]


def gauge(name: str = "up", **labels: str) -> LabelSet:
    return tuple(sorted({"__name__": name, **labels}.items()))


@dataclass(frozen=True)
class Push:
    """One push; `number` None is a foreign sender's."""

    rows: Sequence[Row]
    number: int | None = 1
    epoch: int = 1
    part: int = 0
    tenant: Tenant = ACME
    collector: str = "col-a"
    lane: Lane = Lane.BILLING
    received_ms: int = T0
    complete_through_ms: int | None = None

    def header(self) -> BatchHeader:
        return BatchHeader(
            tenant=self.tenant,
            collector=CollectorId(self.collector),
            lane=self.lane,
            received_ms=self.received_ms,
            sha256="0" * 64,
            sequence=None if self.number is None else PushNumber(self.epoch, self.number, self.part),
            complete_through_ms=self.complete_through_ms,
        )

    def batch(self) -> SampleBatch:
        return make_batch(self.rows)

    def record(self) -> Record:
        return encode_record(self.header(), self.batch())


async def append(log: Log, pushes: Iterable[Push]) -> None:
    writer = await log.writer()
    for push in pushes:
        await writer.append(push.lane.topic, [push.record()])
    await writer.close()


async def memory_log(partitions: int = 2) -> MemoryLog:
    log = MemoryLog(VirtualClock())
    await log.ensure_topics({LIVE_TOPIC: partitions, HISTORY_TOPIC: 1})
    return log


async def open_lake(folder: Path, clock: Clock | None = None) -> Lake:
    objects = LocalObjects(folder / "objects")
    return await Lake.open(
        f"sqlite:///{folder}/catalog.db", str(folder / "warehouse"), objects, clock or VirtualClock()
    )


def writer_of(lake: Lake, log: Log, **settings: float) -> LakeWriter:
    return LakeWriter(lake, log, LakeSettings.model_validate(settings))


async def stored_rows(
    lake: Lake, organization: str = "acme", window: Window = DAY
) -> list[tuple[bytes, int, float]]:
    return rows_of(await lake.scan(organization, window))


def rows_of(table: pa.Table) -> list[tuple[bytes, int, float]]:
    columns = (table.column(name).to_pylist() for name in ("labels", "timestamp_ms", "value"))
    return list(zip(*columns, strict=True))
