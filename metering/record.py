"""What one record of the sample topics holds: a header of who, when and which, and samples.

The header is the record's headers, so that a consumer can skip, deduplicate and count without decoding. The value
is that of `metering.samples`; before it was an Arrow IPC stream of one batch (`series` a dictionary of canonical
label bytes, `timestamp_ms` int64, `value` float64), which is still read. The bits of a stale marker survive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.errors import DeadLetter
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log import Record, StoredRecord
from metering.samples import MAGIC, SampleColumns, decode_columns, encode_columns, make_page

LIVE_TOPIC = "byoc.samples"
HISTORY_TOPIC = "byoc.history"
VERSION = b"2"
PART_STRIDE = 4096  # parts that one part of a push may be cut into: record part = push part * stride + k
_READABLE = frozenset({b"1", VERSION})
STALE_NAN_BITS = 0x7FF0000000000002

LabelSet = tuple[tuple[str, str], ...]  # sorted by name, names unique, no empty value

_SCHEMA = pa.schema(
    [
        pa.field("series", pa.dictionary(pa.int32(), pa.binary())),
        pa.field("timestamp_ms", pa.int64()),
        pa.field("value", pa.float64()),
    ]
)


class Lane(StrEnum):
    """Billing and bulk feed alerts; usage waits for billing alone; history (a backfill) feeds the lake alone."""

    BILLING = "billing"
    BULK = "bulk"
    HISTORY = "history"

    @classmethod
    def _missing_(cls, value: object) -> Lane | None:
        return cls.BILLING if value == "live" else None  # its name before there was bulk

    @property
    def topic(self) -> str:
        return HISTORY_TOPIC if self is Lane.HISTORY else LIVE_TOPIC


class RecordFormat(StrEnum):
    """What the value of a record is: samples by column, a body of our collector as it came, or a gap notice."""

    SAMPLES = "samples"
    FRAMES = "frames"
    GAPS = "gaps"  # see metering.gaps; its sequence names no push


@dataclass(frozen=True, slots=True, order=True)
class Sequence:
    """Which push of a collector: compared in this order, it only grows within (tenant, collector, lane)."""

    epoch: int  # one per boot of the collector, growing
    number: int  # one per push, from 1, without a gap
    part: int = 0  # of a push that was cut: growing within the number

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}.{self.part}"


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """Who pushed, when it was received, and which push it was. Times are milliseconds UTC."""

    tenant: Tenant
    collector: CollectorId
    lane: Lane
    received_ms: int
    sha256: str  # of the body as it was received
    sequence: Sequence | None = None  # None: a foreign sender, deduplicated by its samples
    complete_through_ms: int | None = None  # the collector has sent all it scraped before this time
    previous: tuple[int, int] | None = None  # the epoch before this one, and its last number
    resync: bool = False  # state of frames that a reader lacked; no samples, and no push of its own
    format: RecordFormat = RecordFormat.SAMPLES


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Samples by column: `series_index[i]` says which of `series` row i belongs to."""

    series: tuple[bytes, ...]  # canonical label bytes, see `canonical_labels`
    series_index: npt.NDArray[np.int32]
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def __post_init__(self) -> None:
        if not len(self.series_index) == len(self.timestamps_ms) == len(self.values):
            raise ValueError("columns of different lengths")

    def slice(self, start: int, stop: int) -> SampleBatch:
        """The rows `[start, stop)`; the series stay."""
        return replace(
            self,
            series_index=self.series_index[start:stop],
            timestamps_ms=self.timestamps_ms[start:stop],
            values=self.values[start:stop],
        )


def make_batch(rows: Iterable[tuple[LabelSet, int, float]]) -> SampleBatch:
    """A batch of (labels, timestamp ms, value) rows, in their order."""
    slots: dict[LabelSet, int] = {}
    index, times, values = [], [], []
    for labels, timestamp_ms, value in rows:
        index.append(slots.setdefault(labels, len(slots)))
        times.append(timestamp_ms)
        values.append(value)
    return SampleBatch(
        tuple(canonical_labels(labels) for labels in slots),
        np.asarray(index, np.int32),
        np.asarray(times, np.int64),
        np.asarray(values, np.float64),
    )


def canonical_labels(labels: Iterable[tuple[str, str]]) -> bytes:
    """Sorted `name 0xFF value 0xFF ...`: 0xFF occurs in no UTF-8 text, so equal bytes mean equal labels."""
    return b"".join(name.encode() + b"\xff" + value.encode() + b"\xff" for name, value in sorted(labels) if value)


def parse_canonical_labels(encoded: bytes) -> LabelSet:
    """The inverse of `canonical_labels`. Raises DeadLetter."""
    try:
        *parts, rest = (part.decode() for part in encoded.split(b"\xff"))
        if rest or len(parts) % 2 or not all(parts):
            raise ValueError("not pairs of a name and a value")
        labels = tuple(zip(parts[::2], parts[1::2], strict=True))
    except ValueError as error:
        raise DeadLetter(f"malformed label bytes {encoded[:80]!r}: {error}") from error
    return labels


def series_id(tenant: Tenant, collector: CollectorId, canonical: bytes) -> bytes:
    """16 bytes that name a series of one source in the lake.

    The collector is part of it: two collectors that scrape one target stay two series, so that usage can choose
    one by coverage instead of adding or mixing them.
    """
    return blake2b(series_id_prefix(tenant, collector) + canonical, digest_size=16).digest()


def series_id_prefix(tenant: Tenant, collector: CollectorId) -> bytes:
    """What is hashed before the labels; the hash of many series of one source begins with it."""
    return f"{tenant}\0{collector}\0".encode()


def encode_record(header: BatchHeader, batch: SampleBatch) -> Record:
    """The log record of a batch."""
    page = make_page(batch.series)
    columns = SampleColumns((page,), batch.series_index, batch.timestamps_ms, batch.values)
    return encode_samples(header, columns)


def encode_samples(header: BatchHeader, columns: SampleColumns) -> Record:
    """The log record of columns; the key keeps a collector's pushes in one partition, in order."""
    return Record(record_key(header), encode_columns(columns), render_header(header, len(columns)))


def record_key(header: BatchHeader) -> bytes:
    """The log key of everything one collector sends."""
    return f"{header.tenant}/{header.collector}".encode()


def decode_samples(value: bytes) -> SampleColumns:
    """The columns of a record's value, in whatever format; the labels stay closed. Raises DeadLetter."""
    if value[: len(MAGIC)] == MAGIC:
        return decode_columns(value)
    batch = _decode_arrow(value)
    return SampleColumns((make_page(batch.series),), batch.series_index, batch.timestamps_ms, batch.values)


def decode_batch(value: bytes) -> SampleBatch:
    """The samples of a record's value with their labels, in whatever format. Raises DeadLetter."""
    if value[: len(MAGIC)] != MAGIC:
        return _decode_arrow(value)
    columns = decode_columns(value)
    series = tuple(labels for page in columns.pages for labels in page.labels())
    return SampleBatch(series, columns.series_index, columns.timestamps_ms, columns.values)


def _decode_arrow(value: bytes) -> SampleBatch:
    try:
        with pa.ipc.open_stream(pa.BufferReader(value)) as reader:
            if not reader.schema.equals(_SCHEMA):
                raise DeadLetter(f"a record with another schema: {reader.schema.names}")
            table = reader.read_next_batch()
        table.validate(full=True)
        coded: Any = table.column(0)
        if any(column.null_count for column in (*table.columns, coded.dictionary)):
            raise DeadLetter("a record with nulls")
        return SampleBatch(
            tuple(coded.dictionary.to_pylist()),
            coded.indices.to_numpy(zero_copy_only=False),
            table.column(1).to_numpy(zero_copy_only=False),
            table.column(2).to_numpy(zero_copy_only=False),
        )
    except (pa.ArrowException, OSError, StopIteration, UnicodeDecodeError) as error:
        raise DeadLetter(f"a record that is no Arrow stream: {error}") from error


def decode_header(record: StoredRecord | Record) -> BatchHeader:
    """The header of a record, from its headers alone. Raises DeadLetter."""
    fields = record.headers
    try:
        if fields["version"] not in _READABLE:
            raise DeadLetter(f"record version {fields['version']!r}; this program reads up to {VERSION!r}")
        return BatchHeader(
            tenant=Tenant(OrganizationId(_text(fields, "organization")), ProjectId(_text(fields, "project"))),
            collector=CollectorId(_text(fields, "collector")),
            lane=Lane(_text(fields, "lane")),
            received_ms=int(fields["received_ms"]),
            sha256=_text(fields, "sha256"),
            sequence=_parse_sequence(fields.get("sequence")),
            complete_through_ms=int(fields["complete_through_ms"]) if "complete_through_ms" in fields else None,
            previous=_parse_previous(fields.get("previous")),
            resync="resync" in fields,
            format=RecordFormat(fields.get("format", b"samples").decode()),
        )
    except (KeyError, ValueError) as error:
        raise DeadLetter(f"a record with malformed headers: {error!r}") from error


def render_header(header: BatchHeader, samples: int) -> dict[str, bytes]:
    """The record headers; `samples` is a count for who does not open the value."""
    fields = {
        "version": VERSION,
        "organization": header.tenant.organization.encode(),
        "project": header.tenant.project.encode(),
        "collector": header.collector.encode(),
        "lane": header.lane.value.encode(),
        "received_ms": str(header.received_ms).encode(),
        "sha256": header.sha256.encode(),
        "format": header.format.value.encode(),
        "samples": str(samples).encode(),
    }
    if header.sequence is not None:
        fields["sequence"] = str(header.sequence).encode()
    if header.complete_through_ms is not None:
        fields["complete_through_ms"] = str(header.complete_through_ms).encode()
    if header.previous is not None:
        fields["previous"] = b"%d.%d" % header.previous
    if header.resync:
        fields["resync"] = b"1"
    return fields


def _text(fields: Mapping[str, bytes], name: str) -> str:
    return fields[name].decode()


def _parse_sequence(text: bytes | None) -> Sequence | None:
    if text is None:
        return None
    epoch, number, part = text.split(b".")
    return Sequence(int(epoch), int(number), int(part))


def _parse_previous(text: bytes | None) -> tuple[int, int] | None:
    if text is None:
        return None
    epoch, last = text.split(b".")
    return int(epoch), int(last)
