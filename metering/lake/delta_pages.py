"""Integers by their differences, as a page of Parquet holds them (DELTA_BINARY_PACKED).

Source: Encodings.md of apache/parquet-format. By the compiled kernel where there is one, else by pyarrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake import native
from metering.lake.rows import Integers

_ONE_PAGE = 1 << 30  # bytes
_SCHEMA = pa.schema([pa.field("values", pa.int64(), nullable=False)])


def delta_packed(values: Integers) -> bytes:
    """The coded values, 64 bits each; both ways give the same bytes."""
    if native.delta_packed is None:
        return packed_by_pyarrow(values)
    return native.delta_packed(np.ascontiguousarray(values, np.int64))


def packed_by_pyarrow(values: Integers) -> bytes:
    """The same, taken out of a file with one column in one page that pyarrow wrote."""
    if not len(values):
        return b"\x80\2\4\0\0"  # blocks of 256, four parts, no values, the first is zero
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table([pa.array(values)], schema=_SCHEMA),
        sink,
        row_group_size=len(values),
        max_rows_per_page=len(values),
        data_page_size=_ONE_PAGE,
        use_dictionary=False,
        column_encoding="DELTA_BINARY_PACKED",
        compression="none",
        write_statistics=False,
        store_schema=False,
    )
    file = memoryview(sink.getvalue())
    column: Any = pq.read_metadata(pa.BufferReader(sink.getvalue())).row_group(0).column(0)
    end = column.data_page_offset + column.total_uncompressed_size
    return bytes(file[end - _page_size(bytes(file[column.data_page_offset :][:8])) : end])


def _page_size(header: bytes) -> int:
    """By the beginning of a page's header: field 1 is its kind, field 2 the bytes that follow the header."""
    if header[:3] != b"\x15\0\x15":
        raise ValueError("pyarrow wrote a page whose header begins otherwise than the format says")
    coded = shift = 0
    for octet in header[3:]:
        coded |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            break
    return coded >> 1
