"""Rows of several files in one order without a sort of rows, where whole runs follow each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel.window import Window
from metering.lake.ordering import sort_order
from metering.lake.runs import FileRuns, row_order
from metering.lake.stored_values import StoredValues

Run = tuple[int, list[int]]  # slot, times


def file(runs: list[Run]) -> FileRuns:
    times = np.array([at for _, listed in runs for at in listed], np.int64)
    stored = StoredValues(np.arange(len(times), dtype=np.float64), times[:0], times[:0].astype(np.int8), None)
    slots, counts = ([run[0] for run in runs], [len(run[1]) for run in runs])
    return FileRuns(np.array(slots, np.int64), np.array(counts, np.int64), times, stored)


runs = st.tuples(st.integers(-1, 3), st.lists(st.integers(0, 40), min_size=1, max_size=4).map(sorted))
later = st.tuples(st.integers(0, 3), st.lists(st.integers(40, 60), min_size=1, max_size=4).map(sorted))


@given(st.lists(st.lists(runs, min_size=1, max_size=4), min_size=1, max_size=3), st.lists(later, max_size=3))
def test_the_order_of_runs_is_the_order_of_their_rows(files: list[list[Run]], last: list[Run]) -> None:
    listed = [file(each) for each in [*files, last]]
    order = row_order(listed)
    slots = np.concatenate([np.repeat(each.slots, each.counts) for each in listed])
    times = np.concatenate([each.timestamps_ms for each in listed])
    if order is not None:
        assert np.arange(len(slots))[order].tolist() == sort_order(slots + 1, times).tolist()


def test_files_that_follow_each_other_need_no_sort_and_overlapping_ones_do() -> None:
    one, two = file([(0, [1, 2]), (1, [1])]), file([(0, [3]), (1, [2, 4])])
    assert np.arange(6)[row_order([one, two])].tolist() == [0, 1, 3, 2, 4, 5]
    assert row_order([file([(0, [1, 2])])]) == slice(None)
    assert row_order([one, file([(0, [1])])]) is None
    assert row_order([file([(0, [2, 1])])]) is None
    assert row_order([file([])]) == slice(None)


def test_rows_of_other_series_and_times_are_left_out() -> None:
    found = file([(-1, [1, 5]), (0, [1, 5, 9]), (1, [9])]).within(Window(1, 6))
    assert (found.slots.tolist(), found.counts.tolist(), found.timestamps_ms.tolist()) == ([0], [2], [1, 5])
    assert found.values.values().tolist() == [2.0, 3.0]
