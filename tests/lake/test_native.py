"""The compiled kernel of the lake: to the byte what numpy and pyarrow make of the same, never beyond its room."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metering.lake import native
from metering.lake.delta_pages import aligned_by_numpy, delta_aligned, delta_packed, packed_by_pyarrow
from metering.lake.rows import Floats, Integers
from metering.lake.run_pages import CodedColumn, Column, Encoding, Physical, RunFile
from metering.lake.turning import turn

needs_kernel = pytest.mark.skipif(native.turn is None, reason="the package was built without a C compiler")
SMALLEST, GREATEST = -(1 << 63), (1 << 63) - 1


def integers() -> st.SearchStrategy[list[int]]:
    """Runs of small steps, jumps of any width, and what overflows; lengths around the ends of blocks and parts."""
    length = st.sampled_from([0, 1, 2, 63, 64, 65, 66, 130, 255, 256, 257, 258, 513])
    bits = st.integers(0, 63)
    return st.builds(
        lambda count, width, seed: (
            np.random.default_rng(seed).integers(-(1 << width), 1 << width, count, endpoint=False).tolist()
        ),
        length,
        bits,
        st.integers(0, 1000),
    )


@needs_kernel
@settings(max_examples=200, deadline=None)
@given(values=integers())
@example(values=[SMALLEST, GREATEST, SMALLEST, 0, GREATEST])
@example(values=[7] * 300)
@example(values=list(range(0, -4000, -13)))
@example(values=list(range(70_000)))  # pyarrow cuts pages by rows too, unless it is told not to
def test_integers_are_packed_as_pyarrow_packs_them(values: list[int]) -> None:
    array = np.array(values, np.int64)
    assert delta_packed(array) == packed_by_pyarrow(array)


@settings(max_examples=50, deadline=None)
@given(values=integers())
@example(values=[SMALLEST, GREATEST, SMALLEST, 0, GREATEST])
@example(values=[7] * 300)
@example(values=[15_000 * row + row % 7 for row in range(300)])
@example(values=np.cumsum([(0, 255, -128)[row % 3] for row in range(300)]).tolist())
@example(values=np.cumsum([(0, -129, 127)[row % 3] for row in range(300)]).tolist())
def test_aligned_integers_are_the_same_by_kernel_and_numpy_and_are_read_back(values: list[int]) -> None:
    array = np.array(values, np.int64)
    content = aligned_by_numpy(array)
    assert delta_aligned(array) == content
    file = RunFile([Column("x", Physical.INT64)], 1)
    file.add(len(values), {"x": CodedColumn(content, Encoding.DELTA_BINARY_PACKED, True)})
    assert pq.read_table(pa.BufferReader(file.content())).column("x").to_pylist() == values


@pytest.mark.parametrize("rows", [0, 1, 31, 33, 100])
@pytest.mark.parametrize("times", [1, 2, 15, 17, 40])
@pytest.mark.parametrize("pure", [False, True])
def test_columns_are_turned_into_the_rows_of_their_places(
    rows: int, times: int, pure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pure:
        monkeypatch.setattr(native, "turn", None)
    generator = np.random.default_rng(rows * 100 + times)
    columns = [generator.random(rows) for _ in range(times)]
    places = generator.permutation(rows + 3)[:rows].astype(np.int64)
    table = np.full((rows + 3, times), -1.0)
    turn(columns, places, table)
    expected = np.full((rows + 3, times), -1.0)
    for place, row in zip(places.tolist(), zip(*columns, strict=True), strict=True):
        expected[place] = row
    assert table.tolist() == expected.tolist()


@needs_kernel
@pytest.mark.parametrize(
    ("columns", "places"),
    [
        ([[1.0, 2.0]], [0, 2]),
        ([[1.0, 2.0]], [0, -1]),
        ([[1.0, 2.0], [1.0]], [0, 1]),
        ([[1.0, 2.0, 3.0]], [0, 1]),
    ],
    ids=["a place beyond the table", "a place before it", "a short column", "a long one"],
)
def test_what_does_not_fit_is_refused(columns: list[list[float]], places: list[int]) -> None:
    assert native.turn is not None
    table: Floats = np.zeros((2, len(columns)))
    where: Integers = np.array(places, np.int64)
    with pytest.raises(ValueError):
        native.turn(tuple(np.array(column) for column in columns), where, table)
    assert not table.any()
    with pytest.raises((ValueError, BufferError)):
        native.turn((np.zeros(2),), np.array([0, 1]), np.zeros((4, 2))[:, 1:])
