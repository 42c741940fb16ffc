"""Files of samples read back and merged: the same rows, in one order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metering.lake.rows import Ids, Integers, Runs, id_words
from metering.lake.stored_values import StoredValues, read_columns

_GREATEST = np.iinfo(np.uint64).max


def read_runs(content: bytes, row_groups: Sequence[int] | None = None) -> Runs:
    """The rows of a file of samples, or of some of its row groups, as they stand."""
    table = read_columns(pq.ParquetFile(pa.BufferReader(content)), row_groups)
    ids = id_bytes(table.column("series_id"))
    starts = run_starts(ids)
    counts = np.diff(np.append(starts, len(ids)))
    return Runs(ids[starts], counts, table.column("timestamp_ms").to_numpy(), StoredValues.of(table).values())


def id_bytes(column: Any) -> Ids:
    """A column of 16-byte ids as an array of shape (n, 16)."""
    parts = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1] or b"", np.uint8)
        parts.append(data[chunk.offset * 16 : (chunk.offset + len(chunk)) * 16])
    return np.concatenate(parts).reshape(-1, 16) if parts else np.empty((0, 16), np.uint8)


def run_starts(ids: Ids) -> Integers:
    """Where a row's id is another than the one before."""
    if not len(ids):
        return np.empty(0, np.int64)
    words = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
    differs = (words[1:, 0] != words[:-1, 0]) | (words[1:, 1] != words[:-1, 1])
    return np.flatnonzero(np.append(True, differs))


def runs_between(runs: Runs, low: int, high: int) -> Runs:
    """The runs whose ids' first eight bytes are in `[low, high)`."""
    words, _ = id_words(runs.ids)
    first = int(np.searchsorted(words, np.uint64(low)))
    last = len(words) if high > int(_GREATEST) else int(np.searchsorted(words, np.uint64(high)))
    edges = np.append(0, np.cumsum(runs.counts))
    rows = slice(int(edges[first]), int(edges[last]))
    return Runs(runs.ids[first:last], runs.counts[first:last], runs.timestamps_ms[rows], runs.values[rows])


def is_sorted(runs: Runs) -> bool:
    """Whether ids ascend, each in one run, and times ascend within it."""
    high, low = id_words(runs.ids)
    ascends = (high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))
    steps = np.diff(runs.timestamps_ms) < 0
    steps[np.cumsum(runs.counts)[:-1] - 1] = False
    return bool(ascends.all() and not steps.any())


def merge_runs(parts: Sequence[Runs]) -> Runs:
    """All rows of all parts by id, time, and bits of the value. Nothing is dropped.

    As files follow each other in time, whole runs are put behind each other; rows are sorted if runs overlap.
    """
    ids = np.concatenate([part.ids for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    times = np.concatenate([part.timestamps_ms for part in parts])
    values = np.concatenate([part.values for part in parts])
    high, low = id_words(ids)
    starts = np.cumsum(counts) - counts
    first, last = times[starts], times[starts + counts - 1]
    order = np.lexsort((first, low, high))
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    overlaps = ~is_new[1:] & (first[order][1:] <= last[order][:-1])
    shifts = starts[order] - (np.cumsum(counts[order]) - counts[order])
    rows = np.arange(len(times)) + np.repeat(shifts, counts[order])
    times, values = times[rows], values[rows]
    ranks = np.cumsum(is_new) - 1
    merged = np.bincount(ranks, counts[order]).astype(np.int64)
    if overlaps.any():
        by_row = np.lexsort((values.view(np.uint64), times, np.repeat(ranks, counts[order])))
        times, values = times[by_row], values[by_row]
    return Runs(ids[order[is_new]], merged, times, values)


def cut_runs(runs: Runs, rows: int) -> Iterator[Runs]:
    """Pieces of at most `rows`, or of one series."""
    edges = np.cumsum(runs.counts)
    series = start = 0
    while series < len(runs.ids):
        stop = max(series + 1, int(np.searchsorted(edges, start + rows, side="right")))
        end = int(edges[stop - 1])
        yield Runs(
            runs.ids[series:stop], runs.counts[series:stop], runs.timestamps_ms[start:end], runs.values[start:end]
        )
        series, start = stop, end
