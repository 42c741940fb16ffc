"""The lines of a body that are a key, one space and a number, cut into columns by pyarrow's CSV reader."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import csv

from collector.exposition import openmetrics
from collector.exposition.key_column import KeyColumn
from collector.exposition.keys import KeyMatcher
from collector.exposition.lexing import TEXT, Grammar
from collector.exposition.reading import Floats

BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_READ = csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=["key", "value"])
_POOL = pa.system_memory_pool()  # Arrow's own keeps 10 MB more for itself
_CONVERT = csv.ConvertOptions(
    check_utf8=False,
    column_types={"key": pa.binary(), "value": pa.float64()},
    null_values=[],
    strings_can_be_null=False,
)


def end_of_rows(body: bytearray, grammar: Grammar) -> int | None:
    """Where the rows end, before # EOF; None: the columns can't be trusted with this body."""
    if body.startswith(_BOM) or b"\r" in body or len(body) >= 2**31 or not _is_utf8(body):
        return None
    if grammar is TEXT:
        return len(body)
    if b"\t" in body:
        return None
    for ending in (openmetrics.EOF + b"\n", openmetrics.EOF):
        end = len(body) - len(ending)
        if body.endswith(ending) and (end == 0 or body[end - 1] == 10):
            return end
    return None


def _is_utf8(body: bytearray) -> bool:
    if body.isascii():
        return True
    bounds = pa.py_buffer(struct.pack("=2q", 0, len(body)))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, bounds, pa.py_buffer(body)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def read_pieces(body: bytearray, end: int, odd: list[tuple[int, str]], matcher: KeyMatcher) -> Floats:
    """The numbers of the lines that are a key, a space and a number; of the others (line number, line) into `odd`.

    Lines are numbered from 1, empty ones left out. Raises pyarrow.ArrowInvalid.
    """

    def set_aside(row: csv.InvalidRow) -> Literal["skip", "error"]:
        assert row.number is not None  # it is, without threads
        odd.append((row.number, row.text))
        return "skip"

    if end == 0:
        return np.empty(0)
    parse = csv.ParseOptions(
        delimiter=" ", quote_char=False, double_quote=False, escape_char=False, newlines_in_values=False,
        ignore_empty_lines=True, invalid_row_handler=set_aside,
    )  # fmt: skip
    source: Any = pa.BufferReader(pa.py_buffer(memoryview(body)[:end]))
    values = []
    with csv.open_csv(
        source, read_options=_READ, parse_options=parse, convert_options=_CONVERT, memory_pool=_POOL
    ) as pieces:
        for piece in pieces:
            if piece.num_rows:
                matcher.add(_key_column(piece.column(0)))
                values.append(_numbers(piece.column(1)))
    return np.concatenate(values) if values else np.empty(0)


def _numbers(column: pa.Array[Any]) -> Floats:
    # Without `to_numpy`, which loads pandas where it is installed.
    _, data = column.buffers()
    assert data is not None
    return np.frombuffer(memoryview(data), np.float64, len(column), column.offset * 8)


def _key_column(keys: pa.Array[Any]) -> KeyColumn:
    _, offsets, data = keys.buffers()
    assert offsets is not None
    bounds = np.frombuffer(memoryview(offsets), np.int32, len(keys) + 1, keys.offset * 4)
    data = data if data is not None else pa.py_buffer(b"")
    return KeyColumn(bounds - bounds[0], data.slice(int(bounds[0])))
