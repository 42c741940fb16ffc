"""Rows of many pushes into the order of the files: by series, then by time.

A scrape comes as a column with one time, each series in it once, and the next scrape of that target has nearly the
same series: `turning.py` makes runs of such columns. Only rows with times of their own are sorted, and series that
come from more than one matrix.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from metering.lake.rows import Floats, Integers, Rows, Runs
from metering.lake.series import SeriesIndex
from metering.lake.turning import NONE, Piece, distinct, time_of, turned


def order_rows(parts: Sequence[Rows], series: SeriesIndex) -> Runs:
    """The rows of one day and tenant, by series id, then time; equal instants by the bits of their values."""
    ids, rank_of = series.ranks(distinct(parts))
    pieces, irregular = _pieces(parts, rank_of)
    whole = _joined(_apart(pieces, irregular, rank_of, len(ids)))
    if whole.every is None and (same := whole.times[1:] == whole.times[:-1]).any():
        ranks = np.repeat(whole.ranks, whole.counts)
        if (same & (ranks[1:] == ranks[:-1])).any():
            before = len(whole.values)
            whole = _runs(*_resolved(parts, rank_of))
            return Runs(ids, whole.counts, whole.times, whole.values, before - len(whole.values))
    return Runs(ids, whole.counts, whole.times, whole.values, every=whole.every)


def _pieces(parts: Sequence[Rows], rank_of: Integers) -> tuple[list[Piece], list[Rows]]:
    columns: dict[Hashable, list[Rows]] = {}
    irregular: list[Rows] = []
    for part in parts:
        if not len(part.slots):
            continue
        if part.at_ms is None:
            irregular.append(part)
        else:
            key = part.stream if part.stream is not None else int(part.slots[0])
            columns.setdefault(key, []).append(part)
    pieces: list[Piece] = []
    for listed in columns.values():
        found = turned(sorted(listed, key=time_of), rank_of)
        if found is None:
            irregular.extend(listed)
        else:
            pieces.extend(found)
    return pieces, irregular


def _apart(pieces: list[Piece], irregular: list[Rows], rank_of: Integers, count: int) -> list[Piece]:
    """Pieces that share no series: what is in more than one of them, or irregular, is sorted into one more."""
    uses = np.zeros(count, np.int64)
    for piece in pieces:
        uses[piece.ranks] += 1
    for part in irregular:
        uses[rank_of[part.slots]] = 2
    mixed = uses > 1
    if not mixed.any():
        return pieces
    clean = [piece.rows_of(~mixed[piece.ranks]) for piece in pieces]
    torn = [piece.rows_of(mixed[piece.ranks]) for piece in pieces]
    ranks = [np.repeat(piece.ranks, piece.counts) for piece in torn] + [rank_of[part.slots] for part in irregular]
    times = [piece.times for piece in torn] + [part.times() for part in irregular]
    values = [piece.values for piece in torn] + [part.values for part in irregular]
    all_ranks, all_times = np.concatenate(ranks), np.concatenate(times)
    order = sort_order(all_ranks, all_times)
    return [*clean, _runs(all_ranks[order], all_times[order], np.concatenate(values)[order])]


def _runs(ranks: Integers, times: Integers, values: Floats) -> Piece:
    """Sorted rows as runs."""
    starts = np.flatnonzero(np.append(True, ranks[1:] != ranks[:-1])) if len(ranks) else NONE
    return Piece(ranks[starts], np.diff(np.append(starts, len(ranks))), times, values)


def _joined(pieces: Sequence[Piece]) -> Piece:
    """One piece, its runs by rank."""
    pieces = [piece for piece in pieces if len(piece.ranks)]
    if not pieces:
        return _runs(NONE, NONE, np.empty(0))
    if len(pieces) == 1 and (pieces[0].ranks[1:] > pieces[0].ranks[:-1]).all():
        return pieces[0]
    ranks = np.concatenate([piece.ranks for piece in pieces])
    order = np.argsort(ranks)
    counts = np.concatenate([piece.counts for piece in pieces])
    every = pieces[0].every
    if every is not None and all(
        piece.every is not None and np.array_equal(piece.every, every) for piece in pieces
    ):
        return _interleaved(pieces, every, order)
    times = np.concatenate([piece.all_times() for piece in pieces])
    values = np.concatenate([piece.values for piece in pieces])
    shifts = (np.cumsum(counts) - counts)[order] - (np.cumsum(counts[order]) - counts[order])
    rows = np.arange(len(times)) + np.repeat(shifts, counts[order])
    return Piece(ranks[order], counts[order], times[rows], values[rows])


def _interleaved(pieces: Sequence[Piece], every: Integers, order: Integers) -> Piece:
    """Runs that all have the same times, each copied to its place at once."""
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    values = np.empty((len(order), len(every)), np.float64)
    start = 0
    for piece in pieces:
        stop = start + len(piece.ranks)
        values[place_of[start:stop]] = piece.values.reshape(-1, len(every))
        start = stop
    ranks = np.concatenate([piece.ranks for piece in pieces])[order]
    return Piece(ranks, np.full(len(order), len(every), np.int64), NONE, values.reshape(-1), every)


def _resolved(parts: Sequence[Rows], rank_of: Integers) -> tuple[Integers, Integers, Floats]:
    """Where instants repeat, bits decide the order, and equal samples of foreign senders go."""
    ranks = np.concatenate([rank_of[part.slots] for part in parts])
    times = np.concatenate([part.times() for part in parts])
    values = np.concatenate([part.values for part in parts])
    foreign = np.concatenate([np.full(len(part.slots), part.is_foreign) for part in parts])
    order = np.lexsort((foreign, values.view(np.uint64), times, ranks))
    ranks, times, values, foreign = ranks[order], times[order], values[order], foreign[order]
    bits = values.view(np.uint64)
    kept = ~foreign
    kept[:1] = True
    kept[1:] |= (ranks[1:] != ranks[:-1]) | (times[1:] != times[:-1]) | (bits[1:] != bits[:-1])
    return ranks[kept], times[kept], values[kept]


def sort_order(ranks: Integers, timestamps_ms: Integers) -> Integers:
    """The stable order by rank, then time.

    Pushes arrive nearly in order of time, which the first sort uses; the others go by 16 bits of rank each, for
    which numpy has a radix sort.
    """
    order = np.argsort(timestamps_ms, kind="stable")
    shift, left = 0, int(ranks.max(initial=0))
    while left:
        digits = (ranks >> shift).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
        shift, left = shift + 16, left >> 16
    return order
