"""Rows of many pushes into the order of the files: by series, then by time.

A scrape comes as a column with one time, each series in it once, and the next scrape of that target has nearly the
same series. So a target's columns are stacked into a matrix (times x series) and turned over, which costs a
twentieth of a sort. Only rows with times of their own are sorted, and series that come from more than one matrix.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metering.lake.series import SeriesIndex

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint8]  # (n, 16)

_NONE = np.empty(0, np.int64)
_SPARSE = 2  # cells of a matrix for each sample, above which sorting is the better way


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one push by column; `slots` number the series in the writer's `SeriesIndex`.

    `at_ms`: the time of all of them, if they have one in common; then `timestamps_ms` may be empty. `stream`: what
    has nearly the same series every time. `is_foreign`: equal samples are stored once.
    """

    slots: Integers
    timestamps_ms: Integers
    values: Floats
    is_foreign: bool = False
    at_ms: int | None = None
    stream: Hashable = None

    def times(self) -> Integers:
        """The time of each row, ms."""
        return self.timestamps_ms if self.at_ms is None else np.full(len(self.slots), self.at_ms, np.int64)

    def take(self, chosen: Bools) -> Rows:
        """Those rows; for rows without a common time."""
        return Rows(self.slots[chosen], self.timestamps_ms[chosen], self.values[chosen], self.is_foreign)


@dataclass(frozen=True, slots=True)
class Runs:
    """Rows in order: `counts[i]` rows of the series `ids[i]`, one series after the other.

    Equal samples of foreign senders are gone; `duplicates` says how many.
    """

    ids: Ids  # ascending
    counts: Integers
    timestamps_ms: Integers
    values: Floats
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """Runs of rows; each run is one series, its times ascending; the runs in no order.

    `every`: the times that every run has, when all have the same; `times` is empty then.
    """

    ranks: Integers
    counts: Integers
    times: Integers
    values: Floats
    every: Integers | None = None

    def all_times(self) -> Integers:
        """The time of each row."""
        return self.times if self.every is None else np.tile(self.every, len(self.ranks))

    def rows_of(self, chosen: Bools) -> _Piece:
        """Those runs; `chosen` is by run."""
        rows = np.repeat(chosen, self.counts)
        return _Piece(self.ranks[chosen], self.counts[chosen], self.all_times()[rows], self.values[rows])


def order_rows(parts: Sequence[Rows], series: SeriesIndex) -> Runs:
    """The rows of one day and tenant, by series id, then time; equal instants by the bits of their values."""
    ids, rank_of = _ranks(distinct(parts), series)
    pieces, irregular = _pieces(parts, rank_of)
    whole = _joined(_apart(pieces, irregular, rank_of, len(ids)))
    if whole.every is None and (same := whole.times[1:] == whole.times[:-1]).any():
        ranks = np.repeat(whole.ranks, whole.counts)
        if (same & (ranks[1:] == ranks[:-1])).any():
            before = len(whole.values)
            whole = _runs(*_resolved(parts, rank_of))
            return Runs(ids, whole.counts, whole.times, whole.values, before - len(whole.values))
    return Runs(ids, whole.counts, whole.all_times(), whole.values)


def distinct(parts: Sequence[Rows]) -> Integers:
    """The slots that rows refer to, ascending."""
    # Slots are small and dense, so marking them is ten times faster than sorting them.
    return _marked(*{id(part.slots): part.slots for part in parts}.values())  # the same one comes again and again


def _marked(*arrays: Integers) -> Integers:
    seen = np.zeros(max((int(numbers.max(initial=-1)) for numbers in arrays), default=-1) + 1, np.bool_)
    for numbers in arrays:
        seen[numbers] = True
    return np.flatnonzero(seen)


def _ranks(slots: Integers, series: SeriesIndex) -> tuple[Ids, Integers]:
    """Ids in order, each once, and the rank of each slot among them."""
    ids = series.ids(slots)
    high, low = id_words(ids)
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])  # a forgotten series has a second slot
    rank_of = np.full(int(slots.max(initial=-1)) + 1, -1, np.int64)
    rank_of[slots[order]] = np.cumsum(is_new) - 1
    return ids[order[is_new]], rank_of


def _pieces(parts: Sequence[Rows], rank_of: Integers) -> tuple[list[_Piece], list[Rows]]:
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
    pieces: list[_Piece] = []
    for listed in columns.values():
        found = _turned(sorted(listed, key=_time), rank_of)
        if found is None:
            irregular.extend(listed)
        else:
            pieces.extend(found)
    return pieces, irregular


def _time(part: Rows) -> int:
    assert part.at_ms is not None
    return part.at_ms


def _turned(parts: Sequence[Rows], rank_of: Integers) -> list[_Piece] | None:
    """One target's columns, turned over; None if a series would be twice at one time, or most cells were empty."""
    by_array: dict[int, list[Rows]] = {}
    for part in parts:
        by_array.setdefault(id(part.slots), []).append(part)
    ranks = np.concatenate([rank_of[alike[0].slots] for alike in by_array.values()])
    if np.bincount(ranks).max() == 1:
        stacked = [_stacked(alike, rank_of) for alike in by_array.values()]
        return None if None in stacked else [piece for piece in stacked if piece is not None]
    filled = _filled(parts, rank_of)
    return None if filled is None else [filled]


def _stacked(parts: Sequence[Rows], rank_of: Integers) -> _Piece | None:
    """Columns of the very same series."""
    times = np.array([_time(part) for part in parts], np.int64)
    if (times[1:] == times[:-1]).any():
        return None
    ranks = rank_of[parts[0].slots]
    table = np.ascontiguousarray(np.array([part.values for part in parts]).T)
    return _Piece(ranks, np.full(len(ranks), len(times), np.int64), _NONE, table.reshape(-1), times)


def _filled(parts: Sequence[Rows], rank_of: Integers) -> _Piece | None:
    """Columns of nearly the same series."""
    times, row_of = np.unique([_time(part) for part in parts], return_inverse=True)
    ranks = _marked(rank_of[distinct(parts)])
    samples = sum(len(part.slots) for part in parts)
    if len(ranks) * len(times) > _SPARSE * samples:
        return None
    column_of = np.empty(int(ranks[-1]) + 1, np.int64)
    column_of[ranks] = np.arange(len(ranks))
    table = np.empty((len(times), len(ranks)), np.float64)
    is_set = np.zeros((len(times), len(ranks)), np.bool_)
    known: dict[int, Integers] = {}
    for part, row in zip(parts, row_of.tolist(), strict=True):
        places = known.get(id(part.slots))
        if places is None:
            places = known[id(part.slots)] = column_of[rank_of[part.slots]]
        table[row, places] = part.values
        is_set[row, places] = True
    if int(is_set.sum()) != samples:
        return None
    chosen = np.ascontiguousarray(is_set.T)
    all_times = np.broadcast_to(times, chosen.shape)
    return _Piece(ranks, is_set.sum(axis=0), all_times[chosen], np.ascontiguousarray(table.T)[chosen])


def _apart(pieces: list[_Piece], irregular: list[Rows], rank_of: Integers, count: int) -> list[_Piece]:
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


def _runs(ranks: Integers, times: Integers, values: Floats) -> _Piece:
    """Sorted rows as runs."""
    starts = np.flatnonzero(np.append(True, ranks[1:] != ranks[:-1])) if len(ranks) else _NONE
    return _Piece(ranks[starts], np.diff(np.append(starts, len(ranks))), times, values)


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    """One piece, its runs by rank."""
    pieces = [piece for piece in pieces if len(piece.ranks)]
    if not pieces:
        return _runs(_NONE, _NONE, np.empty(0))
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
    if (ranks[1:] > ranks[:-1]).all():
        return _Piece(ranks, counts, times, values)
    shifts = (np.cumsum(counts) - counts)[order] - (np.cumsum(counts[order]) - counts[order])
    rows = np.arange(len(times)) + np.repeat(shifts, counts[order])
    return _Piece(ranks[order], counts[order], times[rows], values[rows])


def _has_times(piece: _Piece, every: Integers) -> bool:
    return piece.every is not None and np.array_equal(piece.every, every)


def _interleaved(pieces: Sequence[_Piece], every: Integers, order: Integers) -> _Piece:
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
    return _Piece(ranks, np.full(len(order), len(every), np.int64), _NONE, values.reshape(-1), every)


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


def id_words(ids: Ids) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Ids of shape (n, 16) as high and low words that compare as their bytes do."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64).reshape(-1, 2)
    return words[:, 0], words[:, 1]


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
