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
from metering.lake.ordering import Floats, Ids, Integers, Runs, id_words
from metering.lake.scaled import to_chain, to_scaled
from metering.lake.series import Series

FRESH_LEVEL = 1
MERGED_LEVEL = 6  # a twentieth smaller, half as fast again; merging happens once
_SAMPLE_COLUMNS: dict[str, pa.DataType] = {
    "series_id": pa.binary(16),
    "timestamp_ms": pa.int64(),
    "value": pa.float64(),
    "day": pa.date32(),
    "tenant": pa.dictionary(pa.int32(), pa.string()),  # a string in the file; coded, it need not be hashed by row
    "reference": pa.int64(),
    "delta": pa.int64(),
    "scale": pa.int32(),
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
    "use_dictionary": ["series_id", "day", "tenant", "reference", "scale"],
    "dictionary_pagesize_limit": 16 * 1024 * 1024,
    "column_encoding": {
        "timestamp_ms": "DELTA_BINARY_PACKED",
        "delta": "DELTA_BINARY_PACKED",
        "value": "BYTE_STREAM_SPLIT",
    },
    "write_statistics": ["series_id", "timestamp_ms", "day", "tenant"],
    "store_schema": False,
}


def write_samples(runs: Runs, day: int, tenant: Tenant, row_group_rows: int, *, level: int = FRESH_LEVEL) -> bytes:
    """A file of samples of one day (days since 1970) and one tenant; `level` is zstd's."""
    cuts = list(row_groups(runs.counts, row_group_rows))
    longest = max((stop - start for start, stop, *_ in cuts), default=0)
    days: Any = pa.array(np.full(longest, day, np.int32)).cast(pa.date32())
    codes: Any = pa.array(np.zeros(longest, np.int32))
    tenants = pa.DictionaryArray.from_arrays(codes, pa.array([str(tenant)], pa.string()))
    ids = np.ascontiguousarray(runs.ids).view("V16").reshape(-1)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, SAMPLES_ARROW, compression_level=level, **_ENCODING) as writer:
        for start, stop, first, last in cuts:
            count = stop - start
            # Only so much at a time: ids are the widest column, and small pieces of memory stay in the caches.
            counts = runs.counts[first:last]
            wide: Any = np.repeat(ids[first:last], counts)
            value, reference, delta, scale = _value_columns(runs.values[start:stop], counts)
            columns = [
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(wide)]),
                pa.array(runs.timestamps_ms[start:stop]),
                value,
                days.slice(0, count),
                tenants.slice(0, count),
                reference,
                delta,
                scale,
            ]
            writer.write_table(pa.table(columns, schema=SAMPLES_ARROW), row_group_size=count)
    return sink.getvalue().to_pybytes()


def _value_columns(values: Floats, counts: Integers) -> tuple[Any, Any, Any, Any]:
    """value, reference, delta, scale."""
    scaled = to_scaled(values, counts)
    chain = to_chain(scaled, counts)
    references = pa.array(np.repeat(chain.references, counts))
    scales = pa.array(np.repeat(scaled.scales.astype(np.int32), counts))
    if scaled.is_exact is None:
        return pa.nulls(len(values), pa.float64()), references, pa.array(chain.deltas), scales
    deltas = pa.array(chain.deltas, mask=~scaled.is_exact)
    return pa.array(values, mask=scaled.is_exact), references, deltas, scales


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
