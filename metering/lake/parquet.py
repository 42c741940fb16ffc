"""Pending rows into Parquet files: one for each day, tenant and partition; sorted by series id, then time.

The bytes depend on the rows alone, and the name on the positions and the bytes: writing again after a crash gives
the same file. Times are delta-coded, values split by byte (their NaN bits survive) and without statistics, as
min and max mean nothing for NaN. A row group ends where a series does, so that readers skip by id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kernel.ids import Tenant
from kernel.log import TopicPartition
from kernel.window import DAY_MS
from metering.lake.intake import Pending, Rows
from metering.lake.positions import FileName
from metering.lake.series import SeriesIndex

_SAMPLE_COLUMNS: dict[str, pa.DataType] = {
    "series_id": pa.binary(16),
    "timestamp_ms": pa.int64(),
    "value": pa.float64(),
    "day": pa.date32(),
    "tenant": pa.string(),
}
_SERIES_COLUMNS: dict[str, pa.DataType] = {
    "series_id": pa.binary(16),
    "organization": pa.string(),
    "project": pa.string(),
    "collector": pa.string(),
    "name": pa.string(),
    "labels": pa.binary(),
}
SAMPLES_ARROW = pa.schema(_SAMPLE_COLUMNS)
SERIES_ARROW = pa.schema(_SERIES_COLUMNS)
_ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["series_id", "day", "tenant"],
    "dictionary_pagesize_limit": 16 * 1024 * 1024,
    "column_encoding": {"timestamp_ms": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    "write_statistics": ["series_id", "timestamp_ms", "day", "tenant"],
    "store_schema": False,
}


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written at `path`, relative to its table's data folder."""

    path: str
    content: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of one partition's pending rows, and how many equal foreign samples were dropped."""

    files: tuple[NewFile, ...]
    duplicates: int


@dataclass(frozen=True, slots=True)
class _Columns:
    slots: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]  # of the slot's id among all ids here
    timestamps_ms: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    foreign: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> _Columns:
        return _Columns(
            self.slots[rows], self.ranks[rows], self.timestamps_ms[rows], self.values[rows], self.foreign[rows]
        )


def sample_files(source: TopicPartition, pending: Pending, series: SeriesIndex, row_group_rows: int) -> SampleFiles:
    """The Parquet files of one partition's pending rows."""
    files, dropped = [], 0
    for tenant in sorted(pending.rows):
        columns = _columns(pending.rows[tenant], series)
        days = columns.timestamps_ms // DAY_MS
        for day in np.unique(days).tolist():
            ordered = _ordered(columns.take(days == day))
            kept = ordered.take(~_repeats(ordered))
            dropped += len(ordered.slots) - len(kept.slots)
            content = _write_samples(kept, series, day, tenant, row_group_rows)
            name = _name(source, pending, content)
            folder = f"{np.datetime64(day, 'D')}/{tenant.organization}/{tenant.project}"
            files.append(NewFile(f"{folder}/{name}", content, len(kept.slots)))
    return SampleFiles(tuple(files), dropped)


def series_files(
    source: TopicPartition, pending: Pending, series: SeriesIndex, slots: Iterable[int]
) -> Iterator[NewFile]:
    """Files of new series, one for each organization."""
    by_organization: dict[str, list[int]] = {}
    for slot in slots:
        by_organization.setdefault(series.series(slot).tenant.organization, []).append(slot)
    for organization, members in sorted(by_organization.items()):
        content = _write_series(series, members)
        yield NewFile(f"{organization}/{_name(source, pending, content)}", content, len(members))


def used_slots(pending: Pending) -> list[int]:
    """The slots that pending rows refer to, ascending."""
    parts = [rows.slots for listed in pending.rows.values() for rows in listed]
    return _distinct(np.concatenate(parts)).tolist() if parts else []


def _distinct(slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    # Slots are small and dense, so marking them is ten times faster than sorting them.
    seen = np.zeros(int(slots.max()) + 1, np.bool_)
    seen[slots] = True
    return np.flatnonzero(seen)


def id_words(ids: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Ids of shape (n, 16) as high and low words that compare as their bytes do."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def sort_order(ranks: npt.NDArray[np.int64], timestamps_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The stable order by rank, then time.

    Pushes arrive nearly in order of time, which the first sort uses; the others go by 16 bits of rank each, for
    which numpy has a radix sort.
    """
    order = np.argsort(timestamps_ms, kind="stable")
    shift, left = 0, int(ranks.max(initial=0))
    while left:
        digits = (ranks >> shift).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
        shift, left = shift + 16, left >> 16
    return order


def _columns(parts: list[Rows], series: SeriesIndex) -> _Columns:
    slots = np.concatenate([rows.slots for rows in parts])
    unique = _distinct(slots)
    high, low = id_words(series.ids(unique))
    rank_of = np.zeros(int(unique[-1]) + 1, np.int64)
    rank_of[unique[np.lexsort((low, high))]] = np.arange(len(unique))
    return _Columns(
        slots,
        rank_of[slots],
        np.concatenate([rows.timestamps_ms for rows in parts]),
        np.concatenate([rows.values for rows in parts]),
        np.concatenate([np.full(len(rows.slots), rows.is_foreign) for rows in parts]),
    )


def _ordered(columns: _Columns) -> _Columns:
    ordered = columns.take(sort_order(columns.ranks, columns.timestamps_ms))
    if not _same_instant(ordered).any():
        return ordered
    # Equal samples must lie side by side to be seen, so where instants repeat, bits decide the order.
    bits = ordered.values.view(np.uint64)
    return ordered.take(np.lexsort((bits, ordered.timestamps_ms, ordered.ranks)))


def _same_instant(columns: _Columns) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(columns.ranks), np.bool_)
    same[1:] = (columns.ranks[1:] == columns.ranks[:-1]) & (columns.timestamps_ms[1:] == columns.timestamps_ms[:-1])
    return same


def _repeats(columns: _Columns) -> npt.NDArray[np.bool_]:
    bits = columns.values.view(np.uint64)
    repeats = _same_instant(columns) & columns.foreign
    repeats[1:] &= bits[1:] == bits[:-1]
    return repeats


def _write_samples(columns: _Columns, series: SeriesIndex, day: int, tenant: Tenant, rows: int) -> bytes:
    count = len(columns.slots)
    ids: Any = series.ids(columns.slots)
    table = pa.table(
        [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(ids)]),
            pa.array(columns.timestamps_ms),
            pa.array(columns.values),
            pa.repeat(pa.scalar(day, pa.int32()), count).cast(pa.date32()),
            pa.repeat(pa.scalar(str(tenant), pa.string()), count),
        ],
        schema=SAMPLES_ARROW,
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SAMPLES_ARROW, **_ENCODING) as writer:
        for start, stop in row_groups(columns.ranks, rows):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)
    return sink.getvalue().to_pybytes()


def row_groups(ranks: npt.NDArray[np.int64], target_rows: int) -> Iterator[tuple[int, int]]:
    """Cuts `[start, stop)` of sorted rows at changes of series, each of at least `target_rows` but the last."""
    edges = np.append(np.flatnonzero(np.diff(ranks)) + 1, len(ranks))
    start = 0
    while start < len(ranks):
        found = int(np.searchsorted(edges, start + target_rows))
        stop = int(edges[min(found, len(edges) - 1)])
        yield start, stop
        start = stop


def _write_series(series: SeriesIndex, slots: list[int]) -> bytes:
    high, low = id_words(series.ids(np.asarray(slots, np.int64)))
    order: list[int] = np.lexsort((low, high)).tolist()
    ordered = [slots[index] for index in order]
    listed = [series.series(slot) for slot in ordered]
    table = pa.table(
        [
            pa.array([each.tobytes() for each in series.ids(np.asarray(ordered, np.int64))], pa.binary(16)),
            pa.array([each.tenant.organization for each in listed], pa.string()),
            pa.array([each.tenant.project for each in listed], pa.string()),
            pa.array([each.collector for each in listed], pa.string()),
            pa.array([each.name for each in listed], pa.string()),
            pa.array([each.labels for each in listed], pa.binary()),
        ],
        schema=SERIES_ARROW,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue().to_pybytes()


def _name(source: TopicPartition, pending: Pending, content: bytes) -> FileName:
    return FileName(source, pending.first, pending.following - 1, hashlib.sha256(content).hexdigest())
