"""Are the tables beside the samples what they say? Their files may hold a row twice; that is no finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kernel.window import DAY_MS
from metering.lake.beside import BesideTable, each_once, parse
from metering.lake.merging import id_bytes


def wrong_rows(table: BesideTable, file: Any, content: bytes, known: set[bytes]) -> Iterator[str]:
    """What is wrong in a file; `known` are the ids of the series table."""
    location: str = file.file_path
    try:
        rows = parse(table, content)
    except pa.ArrowException as error:
        yield f"{location}: is no file of {table.name}: {error}"
        return
    if len(rows) != file.record_count:
        yield f"{location}: {len(rows)} rows; the table says {file.record_count}"
    if not each_once(table, rows).equals(rows.combine_chunks()):
        yield f"{location}: rows are not in their order, each once"
    if table.has_series:
        unknown = sum(each not in known for each in {each.tobytes() for each in id_bytes(rows.column("series_id"))})
        if unknown:
            yield f"{location}: {table.name} of {unknown} series that the series table does not have"
    yield from _misfiled(table, location, rows)


def _misfiled(table: BesideTable, location: str, rows: pa.Table) -> Iterator[str]:
    parts = location.rsplit("/data/", 1)[-1].split("/")
    if not table.is_by_day:
        if set(rows.column("organization").unique().to_pylist()) - {parts[0]}:
            yield f"{location}: {table.name} of another organization"
        return
    day = int(np.datetime64(parts[0], "D").astype(np.int64))
    if (rows.column("timestamp_ms").to_numpy() // DAY_MS != day).any():
        yield f"{location}: {table.name} of another day"
    if set(rows.column("tenant").unique().to_pylist()) - {"/".join(parts[1:3])}:
        yield f"{location}: {table.name} of another tenant"
