"""Rows and series into Parquet files, by the same code for what comes in and for what is compacted.

The bytes depend on the rows alone. A value is `value` where that is not null, else
`(reference + delta) / 10 ** scale` (`scaled.py`): times and deltas are coded by their differences, the few doubles
split by byte (their NaN bits survive). No statistics of values: min and max mean nothing for NaN. A row group ends
where a series does, so that readers skip by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kernel.ids import Tenant
from metering.lake.delta_pages import delta_aligned, delta_packed
from metering.lake.rows import Bools, Floats, Ids, Integers, Runs, id_words
from metering.lake.run_pages import CodedColumn, Column, Encoding, Physical, RunColumn, RunFile
from metering.lake.scaled import Chain, Scaled, to_chain, to_scaled
from metering.lake.series import Series

FRESH_LEVEL = 1
MERGED_LEVEL = 6  # and integers in two layouts: a tenth smaller; merging happens few times
_SERIES_COLUMNS: dict[str, pa.DataType] = {
    "series_id": pa.binary(16),
    "organization": pa.string(),
    "project": pa.string(),
    "collector": pa.string(),
    "name": pa.string(),
    "labels": pa.binary(),
}
SERIES_ARROW = pa.schema(_SERIES_COLUMNS)
_UTF8, _DATE = {"converted": 0, "logical": 1}, {"converted": 6, "logical": 6}
_COLUMNS = (
    Column("series_id", Physical.FIXED_LEN_BYTE_ARRAY, 16),
    Column("timestamp_ms", Physical.INT64),
    Column("value", Physical.DOUBLE),
    Column("day", Physical.INT32, **_DATE),
    Column("tenant", Physical.BYTE_ARRAY, **_UTF8),
    Column("reference", Physical.INT64),
    Column("delta", Physical.INT64),
    Column("scale", Physical.INT32),
)
_ONE_VALUE = np.zeros(1, np.int64)


def write_samples(runs: Runs, day: int, tenant: Tenant, row_group_rows: int, *, level: int = FRESH_LEVEL) -> bytes:
    """A file of samples of one day (days since 1970) and one tenant; `level` is zstd's."""
    name, number = str(tenant).encode(), _plain_integers(np.array([day], np.int32))
    named = len(name).to_bytes(4, "little") + name
    is_small = level >= MERGED_LEVEL
    file, times = RunFile(_COLUMNS, level), _Times(runs, is_small=is_small)
    for start, stop, first, last in row_groups(runs.counts, row_group_rows):
        counts, rows = runs.counts[first:last], stop - start
        scaled = to_scaled(runs.values[start:stop], counts)
        chain = to_chain(scaled, counts)
        ids = np.ascontiguousarray(runs.ids[first:last])
        bounds = ids[0].tobytes(), ids[-1].tobytes()
        columns: dict[str, RunColumn | CodedColumn] = {
            "series_id": RunColumn(ids.tobytes(), np.arange(len(ids)), counts, bounds),
            "timestamp_ms": times.column(start, stop, last - first),
            "day": RunColumn(number, _ONE_VALUE, np.array([rows]), (number, number)),
            "tenant": RunColumn(named, _ONE_VALUE, np.array([rows]), (name, name)),
            "reference": _run_column(chain.references, counts),
            "scale": _run_column(scaled.scales.astype(np.int32), counts),
            **_value_columns(runs.values[start:stop], scaled, chain, is_small=is_small),
        }
        file.add(rows, columns)
    return file.content()


class _Times:
    """The times of runs by row group: the same object for as many runs that all have the same times."""

    def __init__(self, runs: Runs, *, is_small: bool) -> None:
        self._runs = runs
        self._is_small = is_small
        self._known: dict[int, CodedColumn] = {}

    def column(self, start: int, stop: int, runs: int) -> CodedColumn:
        """The column of the rows `[start, stop)`, which are so many runs."""
        every = self._runs.every
        if every is None:
            return self._coded(self._runs.timestamps_ms[start:stop])
        if runs not in self._known:
            self._known[runs] = self._coded(np.tile(every, runs))
        return self._known[runs]

    def _coded(self, times: Integers) -> CodedColumn:
        bounds = _plain_integers(times.min()), _plain_integers(times.max())
        return _delta_column(times, True, bounds, is_small=self._is_small)


def _delta_column(
    values: Integers, present: Bools | bool, bounds: tuple[bytes, bytes] | None = None, *, is_small: bool
) -> CodedColumn:
    other = delta_aligned(values) if is_small else None
    return CodedColumn(delta_packed(values), Encoding.DELTA_BINARY_PACKED, present, bounds, other)


def _value_columns(values: Floats, scaled: Scaled, chain: Chain, *, is_small: bool) -> dict[str, CodedColumn]:
    """The columns `value` and `delta`: a row is null in one of them."""
    exact = scaled.is_exact
    if exact is None:
        doubles, deltas = CodedColumn(b"", Encoding.BYTE_STREAM_SPLIT, False), chain.deltas
    else:
        split = np.ascontiguousarray(values[~exact]).view(np.uint8).reshape(-1, 8).T.tobytes()
        doubles, deltas = CodedColumn(split, Encoding.BYTE_STREAM_SPLIT, ~exact), chain.deltas[exact]
    packed = _delta_column(deltas, True if exact is None else exact, is_small=is_small)
    return {"value": doubles, "delta": packed}


def _run_column(values: npt.NDArray[Any], counts: Integers) -> RunColumn:
    """One integer for each run; runs that follow each other with the same one are one."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return RunColumn(_plain_integers(values[starts]), np.arange(len(starts)), np.add.reduceat(counts, starts))


def _plain_integers(values: npt.NDArray[Any] | np.integer) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def row_groups(counts: Integers, target_rows: int) -> Iterator[tuple[int, int, int, int]]:
    """Cuts of rows in runs at the ends of runs, each of at least `target_rows` but the last.

    Rows `[start, stop)`, and their runs `[first, last)`.
    """
    edges = np.cumsum(counts)
    start, first, end = 0, 0, int(edges[-1]) if len(edges) else 0
    while start < end:
        last = min(int(np.searchsorted(edges, start + target_rows)), len(edges) - 1) + 1
        stop = int(edges[last - 1])
        yield start, stop, first, last
        start, first = stop, last


def merge_series(contents: Sequence[bytes]) -> bytes:
    """Files of series as one, each series once."""
    table = pa.concat_tables(pq.read_table(pa.BufferReader(content), schema=SERIES_ARROW) for content in contents)
    table = table.sort_by("series_id").combine_chunks()
    ids: Any = table.column("series_id").to_numpy(zero_copy_only=False)
    is_first = np.ones(len(ids), np.bool_)
    is_first[1:] = ids[1:] != ids[:-1]
    sink = pa.BufferOutputStream()
    pq.write_table(table.filter(pa.array(is_first)), sink, compression="zstd", store_schema=False)
    return sink.getvalue().to_pybytes()


def write_series(listed: Sequence[Series], ids: Ids) -> bytes:
    """A file of series, by id; `ids[i]` is of `listed[i]`."""
    high, low = id_words(ids)
    order: npt.NDArray[np.int64] = np.lexsort((low, high))
    ordered = [listed[index] for index in order.tolist()]
    sorted_ids: Any = np.ascontiguousarray(ids[order])
    table = pa.table(
        [
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ordered), [None, pa.py_buffer(sorted_ids)]),
            pa.array([each.tenant.organization for each in ordered], pa.string()),
            pa.array([each.tenant.project for each in ordered], pa.string()),
            pa.array([each.collector for each in ordered], pa.string()),
            pa.array([each.name for each in ordered], pa.string()),
            pa.array([each.labels for each in ordered], pa.binary()),
        ],
        schema=SERIES_ARROW,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue().to_pybytes()
