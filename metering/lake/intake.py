"""Records into pending rows, per partition: drop what the horizon holds, decode the rest, put aside what can't be.

Nothing here reads a clock or does I/O; the same records on the same horizon always give the same pending rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kernel.errors import DeadLetter
from kernel.ids import Tenant
from kernel.log import StoredRecord, TopicPartition
from kernel.window import DAY_MS
from metering.lake.horizon import Horizon, Source, SourceState, advance, is_stored
from metering.lake.series import SeriesIndex
from metering.record import BatchHeader, SampleBatch, decode_batch, decode_header

LAST_MS = 253_402_300_800_000  # 10000-01-01T00:00Z: the first time that has no date


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one push by column; `slots` number the series in the writer's `SeriesIndex`."""

    slots: npt.NDArray[np.int64]
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    is_foreign: bool


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that can't be stored, and why."""

    record: StoredRecord
    reason: str


@dataclass
class Pending:
    """What was read of one partition since the last commit: offsets `[first, following)`."""

    first: int
    following: int
    rows: dict[Tenant, list[Rows]] = field(default_factory=dict)
    states: dict[Source, SourceState] = field(default_factory=dict)
    dead: list[DeadRecord] = field(default_factory=list)
    samples: int = 0
    size_bytes: int = 0
    repeated_pushes: int = 0
    missing_pushes: int = 0
    skipped_offsets: int = 0

    @classmethod
    def at(cls, offset: int) -> Pending:
        return cls(offset, offset)

    @property
    def is_empty(self) -> bool:
        return self.first == self.following


class Intake:
    """Holds the pending rows of the partitions that the writer holds. Not for concurrent use."""

    def __init__(self, series: SeriesIndex, days_per_record: int) -> None:
        self.series = series
        self.pending: dict[TopicPartition, Pending] = {}
        self.horizon = Horizon()
        self._days_per_record = days_per_record

    def take_over(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begin these partitions at these positions; what was pending of them is forgotten."""
        self.pending.update({source: Pending.at(offset) for source, offset in positions.items()})

    def forget(self) -> None:
        """Release every partition."""
        self.pending.clear()

    def release(self, sources: frozenset[TopicPartition]) -> None:
        """Forget partitions that went to another reader."""
        for source in sources:
            self.pending.pop(source, None)

    def admit(self, records: Sequence[StoredRecord]) -> None:
        """Take records of held partitions, in order; those read already, or of other partitions, are ignored."""
        for record in records:
            pending = self.pending.get(record.source)
            if pending is None or record.offset < pending.following:
                continue
            pending.skipped_offsets += record.offset - pending.following
            pending.following = record.offset + 1
            pending.size_bytes += len(record.value)
            try:
                self._admit(record, pending)
            except DeadLetter as error:
                pending.dead.append(DeadRecord(record, str(error)))

    def _admit(self, record: StoredRecord, pending: Pending) -> None:
        header = decode_header(record)
        if header.lane.topic != record.topic:
            raise DeadLetter(f"a record of the {header.lane} lane in the topic {record.topic}")
        source = Source.of(header)
        known = pending.states.get(source) or self.horizon.sources.get(source)
        if is_stored(known, header):
            pending.repeated_pushes += 1
            return
        before = self.series.label_bytes
        rows = self._rows(header, decode_batch(record.value))
        pending.size_bytes += self.series.label_bytes - before  # a record says it small: equal labels compress well
        # Only now: a push that could not be read must not move the horizon past itself.
        state = advance(known, header)
        pending.missing_pushes += state.missing_pushes - (known.missing_pushes if known else 0)
        pending.states[source] = state
        if len(rows.values):
            pending.rows.setdefault(header.tenant, []).append(rows)
            pending.samples += len(rows.values)

    def _rows(self, header: BatchHeader, batch: SampleBatch) -> Rows:
        _check_columns(batch)
        _check_times(batch.timestamps_ms, self._days_per_record)
        slots = self.series.slots(header.tenant, header.collector, batch.series)
        return Rows(
            slots=slots[batch.series_index],
            timestamps_ms=batch.timestamps_ms,
            values=batch.values,
            is_foreign=header.sequence is None,
        )


def _check_columns(batch: SampleBatch) -> None:
    # A null makes pyarrow hand out floats, and None among the labels.
    whole = batch.series_index.dtype == np.int32 and batch.timestamps_ms.dtype == np.int64
    if not whole or any(each is None for each in batch.series) or batch.values.dtype != np.float64:
        raise DeadLetter("a record with nulls")
    if len(batch) and not 0 <= int(batch.series_index.min()) <= int(batch.series_index.max()) < len(batch.series):
        raise DeadLetter("a record whose samples name series that it does not carry")


def _check_times(timestamps_ms: npt.NDArray[np.int64], days_allowed: int) -> None:
    if not len(timestamps_ms):
        return
    first, last = int(timestamps_ms.min()), int(timestamps_ms.max())
    if first < 0 or last >= LAST_MS:
        raise DeadLetter(f"timestamps from {first} to {last} ms; allowed: 0 to {LAST_MS - 1}")
    if last // DAY_MS - first // DAY_MS >= days_allowed:
        days = len(np.unique(timestamps_ms // DAY_MS))
        if days > days_allowed:
            raise DeadLetter(f"samples of {days} days in one record; allowed: {days_allowed}")
