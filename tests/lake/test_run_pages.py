"""Columns that were written by run, as other readers see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.lake.parquet import FRESH_LEVEL, MERGED_LEVEL, write_samples
from metering.lake.rows import Runs
from tests.effort import costly
from tests.lake.setting import ACME, T0

DAY = T0 // 86_400_000


def runs_of(counts: list[int]) -> Runs:
    """Runs of so many rows; the ids ascend, the values are the numbers of the rows."""
    numbers = np.arange(len(counts), dtype=">u8")
    ids = np.zeros((len(counts), 16), np.uint8)
    ids[:, 8:] = numbers.view(np.uint8).reshape(-1, 8)
    rows = sum(counts)
    times = T0 + np.concatenate([np.arange(count) for count in counts])
    return Runs(ids, np.array(counts), times, np.arange(rows, dtype=np.float64))


@costly(60)
@given(
    counts=st.lists(st.one_of(st.integers(1, 3), st.sampled_from([63, 64, 127, 128, 8191, 8192])), min_size=1),
    row_group_rows=st.sampled_from([1, 100, 10_000]),
)
def test_pyarrow_reads_each_row_of_each_run(counts: list[int], row_group_rows: int) -> None:
    runs = runs_of(counts)
    table = pq.read_table(pa.BufferReader(write_samples(runs, DAY, ACME, row_group_rows)))
    ids: list[bytes] = [each.tobytes() for each in np.repeat(runs.ids, runs.counts, axis=0)]
    assert table.column("series_id").to_pylist() == ids
    assert table.column("timestamp_ms").to_pylist() == runs.timestamps_ms.tolist()
    sums = table.column("reference").to_numpy() + table.column("delta").to_numpy()
    assert sums.tolist() == runs.values.tolist()
    assert set(table.column("tenant").to_pylist()) == {str(ACME)}
    assert set(table.column("day").cast(pa.int32()).to_pylist()) == {DAY}
    assert set(table.column("scale").to_pylist()) == {0}


@pytest.mark.parametrize("level", [FRESH_LEVEL, MERGED_LEVEL])
@pytest.mark.parametrize("series", [1, 2, 255, 256, 257, 70_000])
def test_duckdb_reads_the_same(tmp_path: Path, series: int, level: int) -> None:
    runs = runs_of([2] * series)
    path = tmp_path / "samples.parquet"
    path.write_bytes(write_samples(runs, DAY, ACME, 1_000_000, level=level))
    found: Any = duckdb.sql(
        "SELECT count(*), count(DISTINCT series_id), sum(reference + delta), min(timestamp_ms), max(tenant), "
        f"sum(epoch_ms(day)) FROM '{path}' WHERE value IS NULL AND scale = 0"
    )
    total = float(runs.values.sum())
    assert found.fetchall() == [(2 * series, series, total, T0, str(ACME), 2 * series * T0)]


def test_merged_files_have_the_layout_that_is_smaller_and_duckdb_reads_it(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    runs = replace(runs_of([480] * 20), values=np.cumsum(generator.poisson(20, 9600)).astype(np.float64))
    runs = replace(runs, timestamps_ms=runs.timestamps_ms + np.tile(15_000 * np.arange(480), 20))
    sizes = []
    for level in (FRESH_LEVEL, MERGED_LEVEL):
        path = tmp_path / f"{level}.parquet"
        path.write_bytes(write_samples(runs, DAY, ACME, 10_000, level=level))
        found: Any = duckdb.sql(f"SELECT timestamp_ms, reference + delta FROM '{path}'")
        assert found.fetchall() == [*zip(runs.timestamps_ms.tolist(), runs.values.tolist(), strict=True)]
        sizes.append(pq.read_metadata(path).row_group(0).column(6).total_compressed_size)
    assert sizes[1] < 0.9 * sizes[0]


def test_every_row_group_says_what_is_in_it() -> None:
    runs = runs_of([3, 4, 5])
    metadata: Any = pq.read_metadata(pa.BufferReader(write_samples(runs, DAY, ACME, 4)))
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [7, 5]
    bounds = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
    assert bounds == [(runs.ids[0].tobytes(), runs.ids[1].tobytes()), (runs.ids[2].tobytes(),) * 2]
    times = [(group.column(1).statistics.min, group.column(1).statistics.max) for group in groups]
    assert times == [(T0, T0 + 3), (T0, T0 + 4)]
    assert all(group.column(4).statistics.min == str(ACME) for group in groups)
    assert not any(group.column(index).is_stats_set for group in groups for index in (2, 5, 6, 7))


@pytest.mark.parametrize("row_group_rows", [1, 12, 1000])
def test_times_that_every_run_has_make_the_same_file(row_group_rows: int) -> None:
    runs = runs_of([4] * 7)
    times = T0 + 10 * np.arange(4)
    listed = replace(runs, timestamps_ms=np.tile(times, 7))
    short = replace(runs, timestamps_ms=np.empty(0, np.int64), every=times)
    assert short.times().tolist() == listed.timestamps_ms.tolist()
    assert write_samples(short, DAY, ACME, row_group_rows) == write_samples(listed, DAY, ACME, row_group_rows)


def test_a_file_without_rows_has_its_columns() -> None:
    nothing = np.empty(0, np.int64)
    content = write_samples(Runs(np.empty((0, 16), np.uint8), nothing, nothing, np.empty(0)), DAY, ACME, 10)
    table = pq.read_table(pa.BufferReader(content))
    assert (table.num_rows, table.num_columns) == (0, 8)
