"""Integers by their differences, as a page of Parquet holds them (DELTA_BINARY_PACKED), in one of two layouts.

Tight is Arrow's. Aligned takes more bits and fewer bytes once it is compressed, if differences are uneven or come
again: it has small blocks, whole octets (or 1, 2, 4 bits) for a difference, and counts them from a multiple of 128
where an octet holds them then. A compressor sees octets, so equal differences look equal to it.
Source: Encodings.md of apache/parquet-format. By the compiled kernel where there is one, else by pyarrow and numpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake import native
from metering.lake.rows import Integers
from metering.lake.thrift import varint

_ONE_PAGE = 1 << 30  # bytes
_BLOCK, _MINIS, _MINI = 128, 4, 32  # differences in a block, its parts, and differences in each
_STEP, _OCTET = 128, 256
_WIDTHS = np.array([width if width <= 2 else 4 if width <= 4 else -(-width // 8) * 8 for width in range(65)])
_EMPTY_ALIGNED = b"\x80\1\4\0\0"
_SCHEMA = pa.schema([pa.field("values", pa.int64(), nullable=False)])


def delta_packed(values: Integers) -> bytes:
    """The values in the tight layout, 64 bits each; both ways give the same bytes."""
    if native.delta_packed is None:
        return packed_by_pyarrow(values)
    return native.delta_packed(np.ascontiguousarray(values, np.int64))


def delta_aligned(values: Integers) -> bytes:
    """The same values in the aligned layout; both ways give the same bytes."""
    if native.delta_aligned is None:
        return aligned_by_numpy(values)
    return native.delta_aligned(np.ascontiguousarray(values, np.int64))


def aligned_by_numpy(values: Integers) -> bytes:
    """The aligned layout without the kernel, some fifty times slower."""
    if not len(values):
        return _EMPTY_ALIGNED
    head = varint(_BLOCK) + varint(_MINIS) + varint(len(values)) + varint(_zigzag(int(values[0])))
    steps = np.diff(values.astype(np.int64, copy=False))
    if not len(steps):
        return head
    starts = np.arange(0, len(steps), _BLOCK)
    bases = _bases(np.minimum.reduceat(steps, starts), np.maximum.reduceat(steps, starts))
    offsets = np.zeros(len(starts) * _BLOCK, np.uint64)
    offsets[: len(steps)] = (steps - np.repeat(bases, _BLOCK)[: len(steps)]).view(np.uint64)
    parts = offsets.reshape(-1, _MINI)
    widths = _WIDTHS[[int(most).bit_length() for most in parts.max(axis=1)]]
    used = -(-len(steps) // _MINI)  # the parts behind the last difference are not stored
    packed = [_packed(part, int(width)) for part, width in zip(parts[:used], widths[:used], strict=True)]
    blocks = [
        varint(_zigzag(base))
        + widths[_MINIS * number : _MINIS * (number + 1)].astype(np.uint8).tobytes()
        + b"".join(packed[_MINIS * number : _MINIS * (number + 1)])
        for number, base in enumerate(bases.tolist())
    ]
    return head + b"".join(blocks)


def _bases(least: Integers, most: Integers) -> Integers:
    anchors = least & -_STEP
    spans = (most - anchors).view(np.uint64)
    return np.where((least != most) & (spans < _OCTET), anchors, least)


def _packed(part: npt.NDArray[np.uint64], width: int) -> bytes:
    bits = part[:, None] >> np.arange(width, dtype=np.uint64) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else ~(value << 1)


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
