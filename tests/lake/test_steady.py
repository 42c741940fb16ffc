"""Stretches of equal values: the compiled kernel finds in coded pages what numpy finds in the rows of pyarrow."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.window import HOUR_MS, Window
from metering.lake import native
from metering.lake.coded_groups import CodedGroup, coded_group
from metering.lake.file_reader import FileReader
from metering.lake.parquet import FRESH_LEVEL, MERGED_LEVEL, write_samples
from metering.lake.rows import Ids, Runs
from metering.lake.steady import SteadyRuns
from metering.record import STALE_NAN_BITS
from tests.lake.setting import ACME, T0

KERNEL = native.steady
needs_kernel = pytest.mark.skipif(KERNEL is None, reason="the package was built without a C compiler")
STALE = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]
LIMIT_MS = 60_000
DAY = Window(T0, T0 + 86_400_000)
levels = st.sampled_from([0.0, 2.0, 2.0, 0.25, -3.5, 1e300, -0.0, float("inf"), float("nan"), STALE, 123456.789])
steps = st.sampled_from([0, 1, 15_000, 15_000, 15_000, LIMIT_MS, LIMIT_MS + 1, 1_800_000])
# A series: how often each level comes, and the steps between its samples.
series = st.lists(st.tuples(levels, steps, st.sampled_from([1, 1, 2, 5, 70, 300])), min_size=1, max_size=4)


class Memory:
    """One file where a table's files are, as pyiceberg opens them."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def new_input(self, location: str) -> Memory:
        assert location == "a/file"
        return self

    def open(self) -> Any:
        return io.BytesIO(self._content)


def runs_of(listed: Sequence[list[tuple[float, int, int]]]) -> Runs:
    """Runs of those series; ids ascend."""
    ids = np.zeros((len(listed), 16), np.uint8)
    ids[:, 15] = np.arange(len(listed))
    values = [[value for value, _, count in each for _ in range(count)] for each in listed]
    times = [T0 + np.cumsum([step for _, step, count in each for _ in range(count)]) for each in listed]
    counts = np.array([len(each) for each in values])
    return Runs(ids, counts, np.concatenate(times).astype(np.int64), np.concatenate([np.array(v) for v in values]))


def read(content: bytes, ids: Ids, reach: Window, kernel: object) -> SteadyRuns:
    reader = FileReader(Memory(content), ids, reach, must_know_all=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "steady", kernel)
        return reader.steady("a/file", LIMIT_MS)


def listed(found: SteadyRuns) -> tuple[list[Any], list[Any]]:
    """All that it says, in Python."""
    columns = found.slots, found.first_ms, found.last_ms, found.values.values().view(np.int64)
    ranges = found.ranges
    where = ranges.slots, ranges.hours, ranges.row_groups, ranges.firsts, ranges.counts
    return list(zip(*(c.tolist() for c in columns), strict=True)), list(
        zip(*(c.tolist() for c in where), strict=True)
    )


@cache
def some_group(level: int) -> CodedGroup | None:
    runs = runs_of([[(1.5, 15_000, 300), (STALE, 15_000, 2)], [(2.0, 1, 80), (float("inf"), 60_001, 3)]])
    content = write_samples(runs, T0 // 86_400_000, ACME, 1_000, level=level)
    return coded_group(io.BytesIO(content), pq.ParquetFile(pa.BufferReader(content)).metadata, 0)


def must_be_read(*arguments: Any) -> tuple[bytes, bytes]:
    """The kernel, which refuses nothing that the writer has coded."""
    assert KERNEL is not None
    try:
        return KERNEL(*arguments)
    except ValueError as error:
        raise AssertionError from error


@needs_kernel
@settings(max_examples=50, deadline=None)
@given(
    st.lists(series, min_size=1, max_size=5),
    st.sampled_from([1, 100, 100_000]),
    st.sets(st.integers(0, 4), min_size=1),
    st.sampled_from([DAY, Window(T0 + 20_000, T0 + 3_600_001), Window(T0 - 9, T0 + 1)]),
    st.sampled_from([FRESH_LEVEL, MERGED_LEVEL]),
)
def test_the_kernel_finds_what_numpy_finds(
    each: list[list[tuple[float, int, int]]], rows: int, wanted: set[int], reach: Window, level: int
) -> None:
    runs = runs_of(each)
    content = write_samples(runs, T0 // 86_400_000, ACME, rows, level=level)
    ids = runs.ids[sorted(slot for slot in wanted if slot < len(runs.ids))]
    found = read(content, ids, reach, must_be_read)
    expected = read(content, ids, reach, None)
    assert listed(found) == listed(expected)
    assert found.values.count == len(found.slots)


def test_ranges_name_the_rows_of_each_hour_in_each_row_group() -> None:
    runs = runs_of([[(1.0, 900_000, 6)], [(2.0, 1_800_000, 3)], [(3.0, 900_000, 5)]])
    content = write_samples(runs, T0 // 86_400_000, ACME, 7)
    ranges = read(content, runs.ids[1:], DAY, native.steady).ranges
    hour = T0 // HOUR_MS
    # The first group holds the first two series; samples stand 30 minutes apart, the first at half past.
    expected = [(0, hour, 0, 6, 1), (0, hour + 1, 0, 7, 2), (1, hour, 1, 0, 3), (1, hour + 1, 1, 3, 2)]
    assert listed_ranges(ranges) == expected
    assert ranges.files == ("a/file",)
    table = pq.ParquetFile(pa.BufferReader(content)).read_row_group(0).slice(7, 2)
    assert {int(at) // HOUR_MS for at in table.column("timestamp_ms").to_numpy()} == {hour + 1}


def listed_ranges(ranges: Any) -> list[tuple[int, ...]]:
    columns = ranges.slots, ranges.hours, ranges.row_groups, ranges.firsts, ranges.counts
    return list(zip(*(column.tolist() for column in columns), strict=True))


@needs_kernel
def test_a_file_of_another_writer_is_read_too() -> None:
    runs = runs_of([[(1.5, 15_000, 40), (STALE, 15_000, 1)], [(2.0, 15_000, 9)]])
    own = write_samples(runs, T0 // 86_400_000, ACME, 100)
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(own)), sink, compression="snappy")
    other = sink.getvalue().to_pybytes()
    assert listed(read(other, runs.ids, DAY, native.steady)) == listed(read(own, runs.ids, DAY, None))


@needs_kernel
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_pages_are_refused_or_read_within_their_bounds(data: st.DataObject) -> None:
    group = some_group(data.draw(st.sampled_from([FRESH_LEVEL, MERGED_LEVEL])))
    assert group is not None
    assert native.steady is not None
    parts = [*group.pages, b"\1\1", group.references, group.scales]
    which = data.draw(st.integers(0, len(parts) - 1))
    page = bytearray(parts[which])
    page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.sampled_from([0, 1, 2, 64, 127, 128, 255]))
    parts[which] = bytes(page[: data.draw(st.sampled_from([len(page), len(page), len(page) - 1, len(page) // 2]))])
    rows = data.draw(st.sampled_from([group.rows, group.rows, group.rows + 1, 0]))
    try:
        found, _ = native.steady(
            tuple(parts[:6]), (parts[6], parts[7], parts[8]), rows, *(T0, T0 + DAY.length_ms), LIMIT_MS, HOUR_MS
        )
    except ValueError:
        return
    assert len(found) <= 40 * rows
