"""Columns of runs as Parquet column chunks, at the price of the runs and not of the rows.

pyarrow looks at every row of a column of ids or constants. Here a run is known to be one: a dictionary page with
the distinct values, and a data page with a count and a number for each run (RLE_DICTIONARY). Every other column is
written by pyarrow into a file of its own, and its chunks are taken from there as they are.
Source: parquet.thrift and Encodings.md of apache/parquet-format.
"""

from __future__ import annotations

import struct as binary_layout
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from metering.lake import thrift
from metering.lake.ordering import Integers
from metering.lake.thrift import Coded, binary, i32, i64, listed, struct, varint

MAGIC = b"PAR1"
_OPTIONAL, _ZSTD = 1, 6
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_ENCODINGS = {"PLAIN": 0, "RLE": 3, "BIT_PACKED": 4, "DELTA_BINARY_PACKED": 5, "BYTE_STREAM_SPLIT": 9}
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_CREATOR = b"byoc"


class Physical(IntEnum):
    """Parquet's physical types."""

    INT32 = 1
    INT64 = 2
    DOUBLE = 5
    BYTE_ARRAY = 6
    FIXED_LEN_BYTE_ARRAY = 7


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the schema, all of them nullable."""

    name: str
    physical: Physical
    length: int | None = None
    converted: int | None = None  # ConvertedType
    logical: int | None = None  # the field of LogicalType

    def element(self) -> Coded:
        """As an element of the schema."""
        return struct(
            f1=i32(self.physical),
            f2=None if self.length is None else i32(self.length),
            f3=i32(_OPTIONAL),
            f4=binary(self.name.encode()),
            f6=None if self.converted is None else i32(self.converted),
            f10=None if self.logical is None else struct(**{f"f{self.logical}": struct()}),
        )


@dataclass(frozen=True, slots=True)
class RunColumn:
    """A column of one row group by runs: run i is `counts[i]` rows of `distinct[numbers[i]]`, none of them null.

    `distinct` are values in PLAIN encoding, one after the other. `bounds`: least and greatest, encoded so too.
    """

    distinct: bytes
    numbers: npt.NDArray[np.integer]
    counts: Integers
    bounds: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A column chunk: its bytes from `start` of `content` on, and the offsets of its pages within it."""

    content: memoryview
    uncompressed: int
    encodings: Sequence[int]
    data_page: int
    dictionary_page: int | None
    statistics: Coded | None


class RunFile:
    """A Parquet file of both kinds of columns. `columns`: all of them in order; `level`: zstd's."""

    def __init__(self, columns: Sequence[Column], level: int) -> None:
        self._columns = columns
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._parts: list[bytes | memoryview] = [MAGIC]
        self._end = len(MAGIC)
        self._groups: list[Coded] = []
        self._rows = 0

    def add(self, rows: int, runs: Mapping[str, RunColumn], others: _PlainGroup) -> None:
        """A row group; what is not in `runs` is taken from `others`."""
        start, chunks, plain = self._end, [], 0
        for column in self._columns:
            found = runs.get(column.name)
            chunk = others.chunk(column.name) if found is None else self._coded(found, rows)
            chunks.append(self._placed(column, chunk, rows))
            plain += chunk.uncompressed
        self._groups.append(
            struct(
                f1=listed(chunks),
                f2=i64(plain),
                f3=i64(rows),
                f5=i64(start),
                f6=i64(self._end - start),
                f7=i32(len(self._groups)),  # an i16, which is coded alike
            )
        )
        self._rows += rows

    def content(self) -> bytes:
        """The whole file."""
        root = struct(f4=binary(b"schema"), f5=i32(len(self._columns)))
        footer = struct(
            f1=i32(2),
            f2=listed([root, *(column.element() for column in self._columns)]),
            f3=i64(self._rows),
            f4=listed(self._groups) if self._groups else Coded(9, b"\x0c"),
            f6=binary(_CREATOR),
            f7=listed([struct(f1=struct())] * len(self._columns)),
        ).content
        return b"".join([*self._parts, footer, len(footer).to_bytes(4, "little"), MAGIC])

    def _placed(self, column: Column, chunk: _Chunk, rows: int) -> Coded:
        start = self._end
        self._parts.append(chunk.content)
        self._end += len(chunk.content)
        metadata = struct(
            f1=i32(column.physical),
            f2=listed([i32(encoding) for encoding in chunk.encodings]),
            f3=listed([binary(column.name.encode())]),
            f4=i32(_ZSTD),
            f5=i64(rows),
            f6=i64(chunk.uncompressed),
            f7=i64(len(chunk.content)),
            f9=i64(start + chunk.data_page),
            f11=None if chunk.dictionary_page is None else i64(start + chunk.dictionary_page),
            f12=chunk.statistics,
        )
        return struct(f2=i64(0), f3=metadata)

    def _coded(self, column: RunColumn, rows: int) -> _Chunk:
        count = int(column.numbers.max()) + 1
        width = max(1, (count - 1).bit_length())
        levels = varint(rows << 1) + b"\1"
        data = len(levels).to_bytes(4, "little") + levels + bytes((width,)) + _hybrid(column, (width + 7) // 8)
        head = struct(f1=i32(count), f2=i32(_PLAIN))
        dictionary, size = self._page(_DICTIONARY_PAGE, column.distinct, f7=head)
        head = struct(f1=i32(rows), f2=i32(_RLE_DICTIONARY), f3=i32(_RLE), f4=i32(_RLE))
        page, more = self._page(_DATA_PAGE, data, f5=head)
        bounds = column.bounds
        statistics = None if bounds is None else _statistics(bounds, 0)
        content = memoryview(dictionary + page)
        return _Chunk(content, size + more, (_PLAIN, _RLE, _RLE_DICTIONARY), len(dictionary), 0, statistics)

    def _page(self, kind: int, raw: bytes, **head: Coded) -> tuple[bytes, int]:
        """A page with its header, and its size uncompressed."""
        coded = self._compressor.compress(raw)
        header = struct(f1=i32(kind), f2=i32(len(raw)), f3=i32(len(coded)), **head).content
        return header + coded, len(header) + len(raw)


class PlainFile:
    """What pyarrow wrote, opened for taking chunks out; without dictionaries, its columns compressed by zstd."""

    def __init__(self, content: pa.Buffer) -> None:
        self._content = memoryview(content)
        self._metadata: Any = pq.read_metadata(pa.BufferReader(content))

    def group(self, index: int) -> _PlainGroup:
        """A row group."""
        return _PlainGroup(self._content, self._metadata.row_group(index))


class _PlainGroup:
    def __init__(self, content: memoryview, metadata: Any) -> None:
        found = [metadata.column(index) for index in range(metadata.num_columns)]
        self._content = content
        self._columns = {column.path_in_schema: column for column in found}

    def chunk(self, name: str) -> _Chunk:
        column = self._columns[name]
        start = column.data_page_offset
        content = self._content[start : start + column.total_compressed_size]
        encodings = [_ENCODINGS[encoding] for encoding in column.encodings]
        found, statistics = column.statistics, None
        if found is not None and found.has_min_max:
            bounds = binary_layout.pack("<q", found.min), binary_layout.pack("<q", found.max)
            statistics = _statistics(bounds, found.null_count)
        return _Chunk(content, column.total_uncompressed_size, encodings, 0, None, statistics)


def _statistics(bounds: tuple[bytes, bytes], nulls: int) -> Coded:
    least, greatest = bounds
    exact = thrift.boolean(True)
    return struct(f3=i64(nulls), f5=binary(greatest), f6=binary(least), f7=exact, f8=exact)


def _hybrid(column: RunColumn, width: int) -> bytes:
    """Runs in the RLE / bit-packing hybrid: for each its length (varint, shifted by one) and `width` bytes."""
    heads = column.counts.astype(np.uint64) << np.uint64(1)
    octets = np.empty((len(heads), 9 + width), np.uint8)
    used = np.ones(octets.shape, np.bool_)
    for place in range(9):
        used[:, place] = heads > 0 if place else True
        more = heads >> np.uint64(7)
        octets[:, place] = (heads & np.uint64(127)) | ((more > 0).astype(np.uint64) << np.uint64(7))
        heads = more
    for place in range(width):
        octets[:, 9 + place] = column.numbers >> (8 * place)
    return octets[used].tobytes()
