"""Laws: whatever the values, what is read is bit for bit what was written, from files old and new."""

from __future__ import annotations

import math
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.lake.merging import merge_runs, read_runs
from metering.lake.parquet import write_samples
from metering.lake.rows import Floats, Runs
from metering.lake.scaled import to_chain, to_scaled, to_values
from metering.lake.stored_values import StoredValues, read_columns
from tests.effort import costly
from tests.lake.setting import ACME, T0

DAY = T0 // 86_400_000
any_bits = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
decimals = st.builds(lambda n, scale: n / 10**scale, st.integers(-(2**53), 2**53), st.integers(0, 11))
counters = st.integers(-(2**54), 2**54).map(float)
special = st.sampled_from(
    [0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**53, 2.0**53 - 1, -(2.0**53) + 1, 1e300, 5e-324]
)
runs_of_values = st.lists(
    st.one_of(
        *(st.lists(kind, min_size=1, max_size=40) for kind in (any_bits, decimals, counters)),
        st.lists(st.one_of(any_bits, decimals, counters, special), min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=8,
)


def runs_from(listed: list[list[float]]) -> Runs:
    counts = np.array([len(each) for each in listed], np.int64)
    ids = np.zeros((len(listed), 16), np.uint8)
    ids[:, 15] = np.arange(len(listed))
    times = T0 + np.concatenate([np.arange(count) for count in counts])
    return Runs(ids, counts, times, np.array([value for each in listed for value in each], np.float64))


def bits(values: Floats) -> list[int]:
    found: list[int] = values.view(np.uint64).tolist()
    return found


@costly(300)
@given(listed=runs_of_values)
def test_integers_and_their_chain_give_the_bits_back(listed: list[list[float]]) -> None:
    runs = runs_from(listed)
    scaled = to_scaled(runs.values, runs.counts)
    exact = np.ones(len(runs.values), np.bool_) if scaled.is_exact is None else scaled.is_exact
    chain = to_chain(scaled, runs.counts)
    sums = np.repeat(chain.references, runs.counts) + chain.deltas
    assert sums[exact].tolist() == scaled.integers[exact].tolist()
    scales = np.repeat(scaled.scales, runs.counts)
    assert bits(to_values(scaled.integers[exact], scales[exact])) == bits(runs.values[exact])


@costly(100)
@given(listed=runs_of_values, row_group_rows=st.sampled_from([1, 7, 1000]))
def test_a_file_gives_back_what_was_written(listed: list[list[float]], row_group_rows: int) -> None:
    runs = runs_from(listed)
    content = write_samples(runs, DAY, ACME, row_group_rows)
    found = read_runs(content)
    assert bits(found.values) == bits(runs.values)
    assert found.timestamps_ms.tolist() == runs.timestamps_ms.tolist()
    assert (found.ids.tolist(), found.counts.tolist()) == (runs.ids.tolist(), runs.counts.tolist())
    assert write_samples(found, DAY, ACME, row_group_rows) == content


@costly(50)
@given(listed=runs_of_values)
def test_a_row_has_a_double_or_an_integer(listed: list[list[float]]) -> None:
    content = write_samples(runs_from(listed), DAY, ACME, 1000)
    table = pq.read_table(pa.BufferReader(content))
    assert (table.column("value").is_valid().to_numpy() ^ table.column("delta").is_valid().to_numpy()).all()
    assert not table.column("reference").null_count + table.column("scale").null_count


@costly(50)
@given(listed=runs_of_values)
def test_files_with_doubles_alone_and_new_ones_merge_to_the_same_rows(listed: list[list[float]]) -> None:
    runs = runs_from(listed)
    old = read_runs(old_file(runs))
    assert bits(old.values) == bits(runs.values)
    later = Runs(runs.ids, runs.counts, runs.timestamps_ms + 3_600_000, runs.values)
    new = read_runs(write_samples(later, DAY, ACME, 1000))
    assert bits(merge_runs([old, new]).values) == bits(merge_runs([runs, later]).values)


def old_file(runs: Runs) -> bytes:
    """As the writer made them before there were integers."""
    ids = np.repeat(runs.ids, runs.counts, axis=0)
    columns = {
        "series_id": pa.array([each.tobytes() for each in ids], pa.binary(16)),
        "timestamp_ms": pa.array(runs.timestamps_ms),
        "value": pa.array(runs.values),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize("scale", range(10))
def test_a_decimal_takes_the_least_scale_that_holds_its_run(scale: int) -> None:
    values = np.array([1.0, 123_456 / 10**scale, 5.0, math.nan])
    scaled = to_scaled(values, np.array([4]))
    assert scaled.is_exact is not None
    assert (scaled.scales.tolist(), scaled.is_exact.tolist()) == ([scale], [True, True, True, False])


def test_steps_beyond_64_bits_begin_each_run_anew() -> None:
    far = 2.0**53 - 1
    runs = runs_from([[0.0, far] * 4000, [far, -far] * 4000])
    found = StoredValues.of(read_columns(pq.ParquetFile(pa.BufferReader(write_samples(runs, DAY, ACME, 100_000)))))
    assert found.doubles is None
    assert bits(found.values()) == bits(runs.values)
    assert int(np.abs(found.integers).max()) == 2**53 - 1
