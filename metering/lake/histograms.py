"""Native histograms in a table of their own: what a query filters by as columns, and the whole message beside it.

A message is `io.prometheus.write.v2.Histogram` (Prometheus remote write 2.0 specification). Its spans and buckets
stay in `message`; count, sum, schema and the zero bucket are columns too. The table is committed before the
samples, so a crash in between may store a histogram twice; `scan_histograms` gives it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg import expressions

from kernel.ids import Tenant
from kernel.window import DAY_MS, Window
from metering.lake.decode import HistogramRows
from metering.lake.histogram_head import HistogramHead, parse_head
from metering.lake.series import SeriesIndex
from metering.lake.tables import HISTOGRAMS, Tables, translated_errors

_COLUMNS: dict[str, pa.DataType] = {
    "series_id": pa.binary(16),
    "timestamp_ms": pa.int64(),
    "start_ms": pa.int64(),
    "schema": pa.int32(),
    "count": pa.float64(),
    "sum": pa.float64(),
    "zero_threshold": pa.float64(),
    "zero_count": pa.float64(),
    "message": pa.binary(),
    "day": pa.date32(),
    "tenant": pa.string(),
}
HISTOGRAMS_ARROW = pa.schema(_COLUMNS)
# pyiceberg's predicates take (column, value) by place, which their own annotations do not say.
_on: Any = expressions


def write_histograms(
    parts: Sequence[HistogramRows], tenant: Tenant, series: SeriesIndex
) -> Iterator[tuple[int, int, bytes]]:
    """Day (since 1970), rows and content of a file for each day; rows by series id, then time."""
    rows: dict[int, list[tuple[bytes, HistogramHead, bytes]]] = {}
    for part in parts:
        ids = [each.tobytes() for each in series.ids(part.slots)]
        for series_id, message in zip(ids, part.messages, strict=True):
            head = parse_head(message)
            rows.setdefault(head.timestamp_ms // DAY_MS, []).append((series_id, head, message))
    for day, listed in sorted(rows.items()):
        listed.sort(key=lambda row: (row[0], row[1].timestamp_ms, row[2]))
        heads = list(zip(*(row[1] for row in listed), strict=True))
        columns: list[Any] = [
            [row[0] for row in listed],
            *heads,
            [row[2] for row in listed],
            [day] * len(listed),
            [str(tenant)] * len(listed),
        ]
        arrays = [
            pa.array(column, pa.int32()).cast(kind) if kind == pa.date32() else pa.array(column, kind)
            for column, kind in zip(columns, _COLUMNS.values(), strict=True)
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(arrays, schema=HISTOGRAMS_ARROW), sink, compression="zstd", store_schema=False)
        yield day, len(listed), sink.getvalue().to_pybytes()


def scan_histograms(tables: Tables, organization: str, window: Window) -> pa.Table:
    """The histograms of an organization in `[start, end)`, each once, by series id and time. Blocks.

    Columns as in the table, but for day and tenant. Raises LakeUnavailable.
    """
    first, last = (str(np.datetime64(at // DAY_MS, "D")) for at in (window.start_ms, window.end_ms - 1))
    chosen = _on.And(
        _on.StartsWith("tenant", f"{organization}/"),
        _on.GreaterThanOrEqual("day", first),
        _on.LessThanOrEqual("day", last),
        _on.GreaterThanOrEqual("timestamp_ms", window.start_ms),
        _on.LessThan("timestamp_ms", window.end_ms),
    )
    with translated_errors("reading histograms"):
        found = tables.load(HISTOGRAMS).scan(row_filter=chosen).to_arrow()
    rows = found.drop_columns(["day", "tenant"]).to_pylist()
    once = {(row["series_id"], row["timestamp_ms"], row["message"]): row for row in rows}
    return pa.Table.from_pylist(
        [once[key] for key in sorted(once)], schema=found.drop_columns(["day", "tenant"]).schema
    )
