"""Collectors that send frames: targets whose series come and go, groups that end, pushes that come again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from collector.wire.frames import join_blocks
from kernel.ids import CollectorId
from kernel.log import Log, Record
from metering.frames import vendor_labels
from metering.record import LIVE_TOPIC, BatchHeader, Lane, RecordFormat, record_key, render_header
from metering.record import Sequence as Number
from tests.lake.setting import ACME, T0
from tests.wire.frames.world import Target, entry

Sample = tuple[bytes, int, int]  # canonical labels as the lake has them, ms, bits
TWO_HOURS_MS = 2 * 3_600_000


@dataclass
class Sender:
    """One collector and its billing lane: a record for each push, and every sample that was sent."""

    collector: str = "col-a"
    epoch: int = 7
    group_of: int = 4  # pushes in a group
    received_ms: int = T0
    targets: list[Target] = field(default_factory=lambda: [Target(stream=one, now_ms=T0) for one in (1, 2)])
    number: int = 0
    samples: set[Sample] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)

    def push(self, *, churn: bool = True, sends: bool = True) -> Record:
        """The next push; without `sends` it is made and forgotten, so that what follows may build on it."""
        self.number += 1
        group = 1 + (self.number - 1) // self.group_of
        blocks = []
        for place, target in enumerate(self.targets):
            values = {entry(f"metric_{at}", of=str(place)): float(self.number * at) for at in range(4)}
            if churn:
                values[entry(f"pod_{place}", of=str(self.number % 3))] = self.number + 0.5
            tick, found = target.scrape(values)
            blocks += target.encoder.encode(tick, group)
            if sends:
                self.samples.update((vendor_labels(each, ACME), at, bit) for each, at, bit in found)
        record = self._record(join_blocks(group, blocks))
        if sends:
            self.records.append(record)
        return record

    def push_histogram(self, of: bytes, message: bytes) -> Record:
        """A push with one native histogram and nothing else."""
        self.number += 1
        target = self.targets[0]
        tick, _ = target.scrape({}, histograms=[(of, message)])
        return self._record(join_blocks(1, target.encoder.encode(tick, 1)))

    def _record(self, body: bytes) -> Record:
        self.received_ms += 1000
        header = BatchHeader(
            ACME,
            CollectorId(self.collector),
            Lane.BILLING,
            self.received_ms,
            hashlib.sha256(body).hexdigest(),
            Number(self.epoch, self.number),
            complete_through_ms=self.received_ms,
            format=RecordFormat.FRAMES,
        )
        return Record(record_key(header), body, render_header(header, 0))


async def append(log: Log, *records: Record) -> None:
    writer = await log.writer()
    for record in records:
        await writer.append(LIVE_TOPIC, [record])
    await writer.close()
