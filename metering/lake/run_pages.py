"""Parquet files of columns by run, at the price of the runs and not of the rows, and of columns coded before.

pyarrow looks at every row of a column of ids or constants. Here a run is known to be one: a dictionary page with
the distinct values, and a data page with a count and a number for each run (RLE_DICTIONARY).
Source: parquet.thrift and Encodings.md of apache/parquet-format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import zstandard

from metering.lake import thrift
from metering.lake.rows import Bools, Integers
from metering.lake.thrift import Coded, binary, i32, i64, listed, struct, varint

MAGIC = b"PAR1"
_OPTIONAL, _ZSTD = 1, 6
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8
DATA_PAGE, DICTIONARY_PAGE = 0, 2
CREATOR = b"byoc"
_FAST, _THOROUGH = 1, 12  # of zstd; the latter for pages that are small, as they are by run


class Encoding(IntEnum):
    """Parquet's encodings of columns that come coded."""

    DELTA_BINARY_PACKED = 5
    BYTE_STREAM_SPLIT = 9


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
class CodedColumn:
    """A column of one row group: `content` are the values of the rows that are not null, in `encoding`.

    `present`: which rows are not null; a single value stands for all of them. `other`: the same values laid out
    otherwise in the same encoding; what is smaller once compressed is kept.
    """

    content: bytes
    encoding: Encoding
    present: Bools | bool
    bounds: tuple[bytes, bytes] | None = None
    other: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A column chunk: its bytes, and the offsets of its pages within it."""

    content: bytes
    uncompressed: int
    encodings: Sequence[int]
    data_page: int
    dictionary_page: int | None
    statistics: Coded | None


class RunFile:
    """A Parquet file. `columns`: all of them in order; `level`: zstd's."""

    def __init__(self, columns: Sequence[Column], level: int) -> None:
        self._columns = columns
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._fast = zstandard.ZstdCompressor(level=_FAST)
        self._thorough = zstandard.ZstdCompressor(level=level if level <= _FAST else _THOROUGH)
        self._parts: list[bytes] = [MAGIC]
        self._end = len(MAGIC)
        self._groups: list[Coded] = []
        self._rows = 0
        self._last: dict[str, tuple[CodedColumn, _Chunk]] = {}  # by column: often it is the same again

    def add(self, rows: int, columns: Mapping[str, RunColumn | CodedColumn]) -> None:
        """A row group."""
        start, chunks, plain = self._end, [], 0
        for column in self._columns:
            found = columns[column.name]
            chunk = self._by_run(found, rows) if isinstance(found, RunColumn) else self._again(column, found, rows)
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
            f6=binary(CREATOR),
            f7=listed([struct(f1=struct())] * len(self._columns)),
        ).content
        return b"".join([*self._parts, footer, len(footer).to_bytes(4, "little"), MAGIC])

    def _placed(self, column: Column, chunk: _Chunk, rows: int) -> Coded:
        start = self._end
        self._parts.append(chunk.content)
        self._end += len(chunk.content)
        metadata = struct(
            f1=i32(int(column.physical)),
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

    def _again(self, column: Column, found: CodedColumn, rows: int) -> _Chunk:
        last = self._last.get(column.name)
        if last is None or last[0] is not found:
            last = self._last[column.name] = found, self._coded(found, rows)
        return last[1]

    def _coded(self, column: CodedColumn, rows: int) -> _Chunk:
        levels, nulls = _levels(column.present, rows)
        head = struct(f1=i32(rows), f2=i32(int(column.encoding)), f3=i32(RLE), f4=i32(RLE))
        raw, coded = self._smaller(levels + column.content, None if column.other is None else levels + column.other)
        page, size = _framed(DATA_PAGE, raw, coded, f5=head)
        statistics = None if column.bounds is None else _statistics(column.bounds, nulls)
        return _Chunk(page, size, (RLE, int(column.encoding)), 0, None, statistics)

    def _by_run(self, column: RunColumn, rows: int) -> _Chunk:
        count = int(column.numbers.max()) + 1
        width = max(1, (count - 1).bit_length())
        levels, _ = _levels(True, rows)
        data = levels + bytes((width,)) + _hybrid(column, (width + 7) // 8)
        head = struct(f1=i32(count), f2=i32(PLAIN))
        dictionary, size = _framed(
            DICTIONARY_PAGE, column.distinct, self._thorough.compress(column.distinct), f7=head
        )
        head = struct(f1=i32(rows), f2=i32(RLE_DICTIONARY), f3=i32(RLE), f4=i32(RLE))
        page, more = _framed(DATA_PAGE, data, self._thorough.compress(data), f5=head)
        bounds = column.bounds
        statistics = None if bounds is None else _statistics(bounds, 0)
        return _Chunk(dictionary + page, size + more, (PLAIN, RLE, RLE_DICTIONARY), len(dictionary), 0, statistics)

    def _smaller(self, raw: bytes, other: bytes | None) -> tuple[bytes, bytes]:
        """Which of two contents is smaller compressed, and that."""
        found = raw, self._compressor.compress(raw)
        if other is None:
            return found
        # Octets that do not come again are smaller at the lowest level: the others look for what is not there.
        tried = (other, self._compressor.compress(other)), (other, self._fast.compress(other))
        return min((found, *tried), key=lambda each: len(each[1]))


def _framed(kind: int, raw: bytes, coded: bytes, **head: Coded) -> tuple[bytes, int]:
    header = struct(f1=i32(kind), f2=i32(len(raw)), f3=i32(len(coded)), **head).content
    return header + coded, len(header) + len(raw)


def _levels(present: Bools | bool, rows: int) -> tuple[bytes, int]:
    """The definition levels of a page, one bit each, with their length; and how many rows are null."""
    if isinstance(present, bool):
        coded = varint(rows << 1) + bytes((present,))
        nulls = 0 if present else rows
    else:
        octets = np.packbits(present, bitorder="little").tobytes()
        coded = varint(len(octets) << 1 | 1) + octets
        nulls = rows - int(np.count_nonzero(present))
    return len(coded).to_bytes(4, "little") + coded, nulls


def _statistics(bounds: tuple[bytes, bytes], nulls: int) -> Coded:
    least, greatest = bounds
    exact = thrift.boolean(True)
    return struct(f3=i64(nulls), f5=binary(greatest), f6=binary(least), f7=exact, f8=exact)


def _hybrid(column: RunColumn, width: int) -> bytes:
    """Runs in the RLE / bit-packing hybrid: for each its length (varint, shifted by one) and `width` bytes."""
    heads = column.counts.astype(np.uint64) << np.uint64(1)
    places = max(1, (int(heads.max(initial=0)).bit_length() + 6) // 7)
    octets = np.empty((len(heads), places + width), np.uint8)
    used = np.ones(octets.shape, np.bool_)
    for place in range(places):
        used[:, place] = heads > 0 if place else True
        more = heads >> np.uint64(7)
        octets[:, place] = (heads & np.uint64(127)) | ((more > 0).astype(np.uint64) << np.uint64(7))
        heads = more
    for place in range(width):
        octets[:, places + place] = column.numbers >> (8 * place)
    return octets.tobytes() if used.all() else octets[used].tobytes()
