"""Row groups of files that the lake's writer made, as they are coded: what the compiled reader takes.

A page is found by what the footer says and by its own header. Anything that the writer does not do (other
encodings, several pages in a column, another compression) is no error: such a row group is read by pyarrow.
Source: parquet.thrift of apache/parquet-format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

from metering.lake.rows import Ids
from metering.lake.run_pages import CREATOR, DATA_PAGE, DICTIONARY_PAGE, PLAIN, RLE, RLE_DICTIONARY, Encoding
from metering.lake.thrift import read_integers

_MOST_BYTES = 1 << 30  # of a page
_DATA_HEAD, _DICTIONARY_HEAD = 5, 7  # fields of a page's header
_BY_RUN = ("series_id", "reference", "scale")
_CODED = {
    "timestamp_ms": Encoding.DELTA_BINARY_PACKED,
    "delta": Encoding.DELTA_BINARY_PACKED,
    "value": Encoding.BYTE_STREAM_SPLIT,
}


@dataclass(frozen=True, slots=True)
class CodedGroup:
    """`pages`: of series_id, reference, scale (numbers by run), timestamp_ms, delta and value, levels included."""

    rows: int
    ids: Ids  # by number
    references: bytes  # by number, 64 bits each
    scales: bytes  # by number, 32 bits each
    pages: tuple[bytes, bytes, bytes, bytes, bytes, bytes]


class _Other(Exception):
    """Coded otherwise."""


def is_of_the_writer(metadata: Any) -> bool:
    """Whether a file's footer says so."""
    return bool(metadata.created_by == CREATOR.decode())


def coded_group(stream: Any, metadata: Any, index: int) -> CodedGroup | None:
    """A row group of a file of the writer's; None: coded otherwise. `stream` is read once."""
    try:
        return _coded_group(stream, metadata.row_group(index))
    except (_Other, ValueError, IndexError, zstandard.ZstdError):
        return None


def _coded_group(stream: Any, group: Any) -> CodedGroup:
    columns = {}
    for number in range(group.num_columns):
        column = group.column(number)
        columns[column.path_in_schema] = column
    if not columns.keys() >= {*_BY_RUN, *_CODED}:
        raise _Other
    wanted = [columns[name] for name in (*_BY_RUN, *_CODED)]
    start = min(_start(column) for column in wanted)
    stream.seek(start)
    content = stream.read(max(_start(column) + column.total_compressed_size for column in wanted) - start)
    pages: dict[str, bytes] = {}
    numbered: dict[str, bytes] = {}
    for name in _BY_RUN:
        column = columns[name]
        at = _start(column) - start
        numbered[name], following = _page(content, at, DICTIONARY_PAGE, PLAIN, None)
        pages[name], end = _page(content, following, DATA_PAGE, RLE_DICTIONARY, group.num_rows)
        _check_end(column, end - at)
    for name, encoding in _CODED.items():
        at = _start(columns[name]) - start
        pages[name], end = _page(content, at, DATA_PAGE, encoding, group.num_rows)
        _check_end(columns[name], end - at)
    return CodedGroup(
        group.num_rows,
        np.frombuffer(numbered["series_id"], np.uint8).reshape(-1, 16),
        numbered["reference"],
        numbered["scale"],
        (
            pages["series_id"],
            pages["reference"],
            pages["scale"],
            pages["timestamp_ms"],
            pages["delta"],
            pages["value"],
        ),
    )


def _start(column: Any) -> int:
    found: int = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return found


def _check_end(column: Any, length: int) -> None:
    if column.compression != "ZSTD" or length != column.total_compressed_size:
        raise _Other


def _page(content: bytes, at: int, kind: int, encoding: int, rows: int | None) -> tuple[bytes, int]:
    """The page that begins there, and where it ends."""
    header, start = read_integers(content, at)
    own = header.get(_DATA_HEAD if kind == DATA_PAGE else _DICTIONARY_HEAD)
    size, coded = header.get(2), header.get(3)
    if header.get(1) != kind or not isinstance(own, dict) or own.get(2) != encoding:
        raise _Other
    if kind == DATA_PAGE and (own.get(1) != rows or own.get(3) != RLE):
        raise _Other
    if not isinstance(size, int) or not isinstance(coded, int) or not 0 <= size <= _MOST_BYTES or coded < 0:
        raise _Other
    if size == 0:
        return b"", start + coded
    page = zstandard.ZstdDecompressor().decompress(content[start : start + coded], max_output_size=size)
    if len(page) != size:
        raise _Other
    return page, start + coded
