"""Full files of a day, each of all series and some of its time, into as many of some series and all of the time.

A series' runs become as many times longer as there are files. Only one stretch of ids is in memory at a time: a row
group says by its statistics which ids it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake.merging import merge_runs, read_runs, runs_between
from metering.lake.rows import Runs

_WHOLE = 1 << 64  # ids are told apart by their first eight bytes; all rows of a series fall into one stretch
_ROOM = 0.9  # of what a file may hold: how many rows a stretch has is an estimate
Bounds = tuple[int, int]  # first eight bytes of the lowest and of the highest id


def prefix(series_id: bytes) -> int:
    """Where an id stands among all."""
    return int.from_bytes(series_id[:8], "big")


def stretched(contents: Sequence[bytes], most_rows: int) -> Iterator[Runs]:
    """All rows of some files, by stretch of ids, of some `most_rows` each."""
    files = [pq.ParquetFile(pa.BufferReader(content)) for content in contents]
    groups = [[_bounds(file, index) for index in range(file.num_row_groups)] for file in files]
    for low, high in _cuts(files, groups, most_rows):
        parts = [
            runs_between(read_runs(content, chosen), low, high)
            for content, each in zip(contents, groups, strict=True)
            if (chosen := [index for index, (least, most) in enumerate(each) if least < high and most >= low])
        ]
        merged = merge_runs(parts) if parts else None
        if merged is not None and len(merged.values):
            yield merged


def is_wide(bounds: Bounds, whole: Bounds) -> bool:
    """Whether a file has more than half of the ids that all have together: of stretches at most one does."""
    return 2 * (bounds[1] - bounds[0]) > whole[1] - whole[0]


def _bounds(file: pq.ParquetFile, group: int) -> Bounds:
    statistics: Any = file.metadata.row_group(group).column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return 0, _WHOLE - 1
    return prefix(statistics.min), prefix(statistics.max)


def _cuts(files: Sequence[pq.ParquetFile], groups: Sequence[Sequence[Bounds]], most_rows: int) -> Iterator[Bounds]:
    """Half-open stretches that cover all ids, of about equally many rows; ids of a row group lie evenly."""
    listed = [
        (*bounds, file.metadata.row_group(index).num_rows)
        for file, each in zip(files, groups, strict=True)
        for index, bounds in enumerate(each)
    ]
    rows = np.array([count for _, _, count in listed], np.float64)
    edges = np.array([edge for low, high, _ in listed for edge in (low, high + 1)], np.float64)
    edges = np.unique(edges)
    below = np.zeros(len(edges))
    for (low, high, _), count in zip(listed, rows, strict=True):
        below += count * np.clip((edges - low) / (high + 1 - low), 0, 1)
    stretches = max(1, int(np.ceil(rows.sum() / (most_rows * _ROOM))))
    wanted = np.arange(1, stretches) * rows.sum() / stretches
    inner = sorted({int(cut) for cut in np.interp(wanted, below, edges)})
    yield from zip([0, *inner], [*inner, _WHOLE], strict=True)
