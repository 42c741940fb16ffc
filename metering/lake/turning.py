"""A target's scrapes, columns of nearly the same series, into runs: stacked to a matrix and turned over.

That costs a twentieth of a sort. By the compiled kernel where there is one (`metering.lake.native`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metering.lake import native
from metering.lake.rows import Bools, Floats, Integers, Rows

NONE: Integers = np.empty(0, np.int64)
_SPARSE = 2  # cells of a matrix for each sample, above which sorting is the better way


@dataclass(frozen=True, slots=True)
class Piece:
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

    def rows_of(self, chosen: Bools) -> Piece:
        """Those runs; `chosen` is by run."""
        rows = np.repeat(chosen, self.counts)
        return Piece(self.ranks[chosen], self.counts[chosen], self.all_times()[rows], self.values[rows])


def turned(parts: Sequence[Rows], rank_of: Integers) -> list[Piece] | None:
    """One target's columns, by time, turned over; None if a series would be twice at one time, or most cells were
    empty. `rank_of`: by slot.
    """
    groups = _alike(parts)
    ranks = np.concatenate([rank_of[alike[0].slots] for alike in groups])
    if np.bincount(ranks).max() > 1:
        filled = _filled(parts, rank_of)
        return None if filled is None else [filled]
    by_times: dict[tuple[int, ...], list[list[Rows]]] = {}
    for alike in groups:
        times = tuple(time_of(part) for part in alike)
        if len(set(times)) < len(times):
            return None
        by_times.setdefault(times, []).append(alike)
    return [_stacked(listed, times, rank_of) for times, listed in by_times.items()]


def _alike(parts: Sequence[Rows]) -> list[list[Rows]]:
    """Columns by their series, if those are the very same in the same order: mostly they are the same object."""
    by_array: dict[int, list[Rows]] = {}
    candidates: dict[tuple[int, int], list[list[Rows]]] = {}
    for part in parts:
        alike = by_array.get(id(part.slots))
        if alike is None:
            found = candidates.setdefault((len(part.slots), int(part.slots[0])), [])
            alike = next((each for each in found if np.array_equal(each[0].slots, part.slots)), None)
            if alike is None:
                alike = []
                found.append(alike)
            by_array[id(part.slots)] = alike
        alike.append(part)
    return [alike for found in candidates.values() for alike in found]


def time_of(part: Rows) -> int:
    """The time of a column."""
    assert part.at_ms is not None
    return part.at_ms


def _stacked(groups: Sequence[Sequence[Rows]], times: tuple[int, ...], rank_of: Integers) -> Piece:
    """Columns that have the same times; in each group they are of the very same series. Runs ascend by rank."""
    ranks = np.concatenate([rank_of[alike[0].slots] for alike in groups])
    order = np.argsort(ranks)
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    table = np.empty((len(ranks), len(times)), np.float64)
    start = 0
    for alike in groups:
        stop = start + len(alike[0].slots)
        turn([part.values for part in alike], places[start:stop], table)
        start = stop
    every = np.array(times, np.int64)
    return Piece(ranks[order], np.full(len(ranks), len(times), np.int64), NONE, table.reshape(-1), every)


def turn(columns: Sequence[Floats], places: Integers, table: Floats) -> None:
    """`table[places[i], j] = columns[j][i]`."""
    if native.turn is None:
        table[places] = np.ascontiguousarray(np.array(columns).T)
    else:
        native.turn(tuple(np.require(column, np.float64, ["C", "A"]) for column in columns), places, table)


def _filled(parts: Sequence[Rows], rank_of: Integers) -> Piece | None:
    """Columns of nearly the same series."""
    times, row_of = np.unique([time_of(part) for part in parts], return_inverse=True)
    ranks = marked(rank_of[distinct(parts)])
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
    return Piece(ranks, is_set.sum(axis=0), all_times[chosen], np.ascontiguousarray(table.T)[chosen])


def distinct(parts: Sequence[Rows]) -> Integers:
    """The slots that rows refer to, ascending."""
    # Slots are small and dense, so marking them is ten times faster than sorting them.
    return marked(*{id(part.slots): part.slots for part in parts}.values())  # the same one comes again and again


def marked(*arrays: Integers) -> Integers:
    """The numbers that occur, ascending; all are small."""
    seen = np.zeros(max((int(numbers.max(initial=-1)) for numbers in arrays), default=-1) + 1, np.bool_)
    for numbers in arrays:
        seen[numbers] = True
    return np.flatnonzero(seen)
