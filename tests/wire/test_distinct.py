"""Sets of integers without numpy.ma, against numpy's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.distinct import distinct, is_among

SOME = st.lists(st.integers(-50, 50), max_size=60)


@given(SOME)
def test_distinct_as_numpy(values: list[int]) -> None:
    array = np.array(values, np.int32)
    assert distinct(array).tolist() == np.unique(array).tolist()
    assert distinct(array).dtype == array.dtype


@given(SOME, SOME)
def test_among_as_numpy(values: list[int], some: list[int]) -> None:
    ours, theirs = np.array(values, np.int64), np.array(some, np.int64)
    assert is_among(ours, theirs).tolist() == np.isin(ours, theirs).tolist()


def test_loads_no_masked_arrays() -> None:
    code = (
        "import sys, numpy as np; from collector.wire.distinct import distinct, is_among;"
        "a = np.arange(9); distinct(a); is_among(a, a); sys.exit('numpy.ma' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
