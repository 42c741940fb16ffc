"""Where in an hour a component was held and missing, for hours that are not one level from end to end. Pure, numpy.

By quarters, because the months of some zones (+05:30, +05:45) begin inside a UTC hour; with the level before each
gap, because a contract may have gaps filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metering.usage.array_hours import HourTable, Pieces
from metering.usage.levels import Int64

QUARTERS = 4
Quarter = tuple[int, int, int, int]  # level times ms, ms observed, ms missing, highest level


@dataclass(frozen=True, slots=True)
class Shape:
    """Times are ms inside the hour. A gap: start, end, the level before it if that is in this hour.

    `last`: the level that was held last, None if none was.
    """

    quarters: tuple[Quarter, ...]
    gaps: tuple[tuple[int, int, int | None], ...]
    last: int | None


def shapes_of(table: HourTable, edges_ms: Int64) -> dict[int, Shape]:
    """By number of the row, for the rows that are not one level throughout. Hours are of one length."""
    width = int(edges_ms[1] - edges_ms[0])
    rows = np.flatnonzero((table.observed_ms != width) | (table.integrals != table.peaks * width))
    if not len(rows):
        return {}
    count = len(edges_ms) - 1
    keys = table.components[rows] * count + table.hours[rows]
    order = np.argsort(keys)
    rows, keys = rows[order], keys[order]
    held, of_held = _of_rows(table.pieces, keys, count)
    gaps, of_gaps = _of_rows(table.gaps, keys, count)
    begin = edges_ms[table.hours[rows]]
    figures = np.zeros((len(rows), QUARTERS, 4), np.int64)
    parts = _cut(held, of_held, begin, width // QUARTERS)
    figures[:, :, 0] = _summed(parts.cells, parts.lengths * parts.levels, np.add, len(rows))
    figures[:, :, 1] = _summed(parts.cells, parts.lengths, np.add, len(rows))
    figures[:, :, 3] = _summed(parts.cells, parts.levels, np.maximum, len(rows))
    lost = _cut(gaps, of_gaps, begin, width // QUARTERS)
    figures[:, :, 2] = _summed(lost.cells, lost.lengths, np.add, len(rows))
    before = _levels_before(held, of_held, gaps, of_gaps, begin)
    last = _last_levels(held, of_held, len(rows))
    bounds = np.searchsorted(of_gaps, np.arange(len(rows) + 1)).tolist()
    listed = list(zip(gaps.starts.tolist(), gaps.ends.tolist(), before, strict=True))
    return {
        row: Shape(
            tuple((quantity, seen, gone, peak) for quantity, seen, gone, peak in quarters),
            tuple(listed[bounds[at] : bounds[at + 1]]),
            last[at],
        )
        for at, (row, quarters) in enumerate(zip(rows.tolist(), figures.tolist(), strict=True))
    }


def _of_rows(pieces: Pieces, keys: Int64, count: int) -> tuple[Pieces, Int64]:
    """The pieces of those rows, by row, then time, and the place of each one's row in `keys`."""
    mine = pieces.components * count + pieces.hours
    at = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    kept = np.flatnonzero(keys[at] == mine)
    kept = kept[np.lexsort((pieces.starts[kept], at[kept]))]  # views of a component take turns
    columns = (pieces.components, pieces.hours, pieces.starts, pieces.ends, pieces.levels)
    return Pieces(*(column[kept] for column in columns)), at[kept]


@dataclass(frozen=True, slots=True)
class _Parts:
    cells: Int64  # row times 4 plus quarter, ascending
    lengths: Int64
    levels: Int64


def _cut(pieces: Pieces, of_row: Int64, begin: Int64, quarter_ms: int) -> _Parts:
    starts, ends = pieces.starts - begin[of_row], pieces.ends - begin[of_row]
    first, last = starts // quarter_ms, (ends - 1) // quarter_ms
    counts = last - first + 1
    each = np.repeat(np.arange(len(counts)), counts)
    quarter = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    lengths = np.minimum(ends[each], (quarter + 1) * quarter_ms) - np.maximum(starts[each], quarter * quarter_ms)
    return _Parts(of_row[each] * QUARTERS + quarter, lengths, pieces.levels[each])


def _summed(cells: Int64, figures: Int64, operation: np.ufunc, rows: int) -> Int64:
    dense = np.zeros(rows * QUARTERS, np.int64)
    if len(cells):
        first = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
        dense[cells[first]] = operation.reduceat(figures, first)
    return dense.reshape(rows, QUARTERS)


def _levels_before(held: Pieces, of_held: Int64, gaps: Pieces, of_gaps: Int64, begin: Int64) -> list[int | None]:
    """Of each gap the level of the piece that ends where it begins."""
    if not len(held.ends):
        return [None] * len(of_gaps)
    width = int(max(held.ends.max(), gaps.ends.max(initial=0)) - begin.min()) + 1
    known = of_held * width + (held.ends - begin[of_held])
    wanted = of_gaps * width + (gaps.starts - begin[of_gaps])
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    fits = known[at] == wanted
    pairs = zip(held.levels[at].tolist(), fits.tolist(), strict=True)
    return [level if is_known else None for level, is_known in pairs]


def _last_levels(held: Pieces, of_held: Int64, rows: int) -> list[int | None]:
    found: list[int | None] = [None] * rows
    ends = np.flatnonzero(np.append(of_held[1:] != of_held[:-1], True)[: len(of_held)])
    for row, level in zip(of_held[ends].tolist(), held.levels[ends].tolist(), strict=True):
        found[row] = level
    return found
