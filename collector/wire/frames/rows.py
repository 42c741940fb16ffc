"""From what stands in a block to rows of series that the reader's caller numbered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from collector.wire.frames.body import Head
from collector.wire.frames.extras import Extras
from collector.wire.frames.mapping import Mapping
from collector.wire.frames.model import STALE_NAN_BITS, ExemplarOf, Floats, Integers, Rows, StartsOf


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one block."""

    series: Integers
    values: Floats


def rows_of(head: Head, after: Mapping, before: Mapping, columns: Columns | None, rest: Extras) -> Iterator[Rows]:
    """Rows by number: stale markers by the mapping before the block, all else by that after it."""
    at_ms = head.at_ms
    if len(rest.stale):
        series = before.numbers[rest.stale]
        values = np.full(len(series), STALE_NAN_BITS, np.uint64).view(np.float64)
        yield Rows(head.stream, at_ms, series, np.full(len(series), at_ms, np.int64), values)
    if columns is not None:
        times = np.broadcast_to(np.int64(at_ms), len(columns.series))  # takes no memory; must not be written to
        yield Rows(head.stream, at_ms, columns.series, times, columns.values)
    if rest.dated is not None:
        dated = rest.dated
        yield Rows(head.stream, at_ms, after.numbers[dated.slots], dated.timestamps_ms, dated.values)
    if rest.histograms or rest.exemplars or rest.starts is not None or rest.metadata:
        nothing = np.empty(0, np.int64)
        histograms = [(int(after.numbers[row.slot]), row.message) for row in rest.histograms]
        exemplars = [
            ExemplarOf(int(after.numbers[row.slot]), row.value, row.timestamp_ms, row.labels)
            for row in rest.exemplars
        ]
        begun = rest.starts
        starts = None if begun is None else StartsOf(after.numbers[begun.slots], begun.starts_ms)
        yield Rows(head.stream, at_ms, nothing, nothing, np.empty(0), histograms, exemplars, starts, rest.metadata)
