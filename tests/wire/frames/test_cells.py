"""A cell coded by the kernel is the one that numpy codes, whatever stands in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.native import encode_cell
from collector.wire.frames import Tick
from collector.wire.frames.cells import column_of
from collector.wire.frames.layout import Compressor
from collector.wire.frames.mirror import Mirror
from collector.wire.frames.model import CELL
from tests.collector.exposing import WITHOUT_KERNEL
from tests.effort import costly
from tests.wire.frames.test_round_trip import VALUES

needs_kernel = pytest.mark.skipif(encode_cell is None, reason=WITHOUT_KERNEL)
NONE = np.empty(0, np.int32)
NEAR_HALF = [0.5, 1.5, 2.5, 0.05, 0.15, 0.25, 1e15 + 0.5, 4503599627370495.5, 4503599627370497.0, 900719925474099.1]
CLASSES = st.sampled_from((0, 0, 0, 1, 2, 5, 9, 255))
BASES = st.one_of(st.integers(-(2**62), 2**62), st.integers(-(2**53), 2**53), st.integers(0, 1000))


def assert_alike(mirror: Mirror, tick: Tick, cell: int) -> None:
    assert encode_cell is not None
    ours, theirs = (column_of(mirror, tick, cell, coder) for coder in (None, encode_cell))
    assert (ours.bitmap, ours.values, ours.samples) == (theirs.bitmap, theirs.values, theirs.samples)
    assert ours.exceptions.tolist() == theirs.exceptions.tolist()


def mirror_of(live: list[bool], classes: list[int], coded: list[int], at: int) -> Mirror:
    """A mirror with these slots from `at` on."""
    mirror = Mirror(1, Compressor(1))
    mirror.grow(at + len(live))
    mirror.live[at : at + len(live)] = live
    mirror.bases.classes[at : at + len(live)] = classes
    mirror.bases.coded[at : at + len(live)] = coded
    return mirror


@needs_kernel
@costly(300)
@given(st.data())
def test_the_kernel_codes_a_cell_as_numpy_does(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 40))

    def draw(one: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(one, min_size=count, max_size=count))

    at = data.draw(st.sampled_from([0, CELL - 5, CELL]))
    mirror = mirror_of(draw(st.booleans()), draw(CLASSES), draw(BASES), at)
    values = np.zeros(at + count)
    values[at:] = draw(st.one_of(VALUES, st.sampled_from(NEAR_HALF)))
    present = None
    if data.draw(st.booleans()):
        present = np.ones(at + count, np.bool_)
        present[at:] = draw(st.booleans())
    for cell in (0, 1):
        assert_alike(mirror, Tick(1, values, present, NONE, NONE, NONE), cell)


@needs_kernel
def test_full_cells_are_coded_alike_too() -> None:
    """So many that planes are begun late, and bitmaps have a rest."""
    dice = np.random.default_rng(3)
    for count in (511, 512, 513, 5_000, CELL):
        live = dice.random(count) < 0.9
        classes = dice.choice(np.array([0, 0, 0, 2, 3, 255], np.uint8), count)
        values = np.round(dice.normal(0, 1e4, count), 2) * (dice.random(count) < 0.7)
        values[classes == 0] = np.round(values[classes == 0]) + 2.0**40 * (dice.random(count)[classes == 0] < 0.001)
        coded = np.round(values * 10.0 ** np.where(classes == 255, 0, classes)).astype(np.int64)
        mirror = mirror_of(live.tolist(), classes.tolist(), (coded - dice.integers(0, 90, count)).tolist(), 0)
        for present in (None, np.ones(count, np.bool_), dice.random(count) < 0.99):
            assert_alike(mirror, Tick(1, values, present, NONE, NONE, NONE), 0)


@needs_kernel
def test_what_is_not_there_is_not_looked_at() -> None:
    assert encode_cell is not None
    values, flags = np.zeros(10), np.ones(10, np.bool_)
    classes, coded = np.zeros(10, np.uint8), np.zeros(10, np.int64)
    for start, stop in ((0, 11), (-1, 5), (6, 5), (0, 2**40)):
        with pytest.raises(ValueError, match="are allowed"):
            encode_cell(values, flags, flags, classes, coded, start, stop)
    for place in range(5):
        arrays = [values, flags, flags, classes, coded]
        arrays[place] = arrays[place][:9]
        with pytest.raises(ValueError, match="are allowed"):
            encode_cell(*arrays, 0, 10)  # type: ignore[call-arg, arg-type]
    with pytest.raises(ValueError, match="0 to 9 and 255"):
        encode_cell(values, flags, None, classes + np.uint8(10), coded, 0, 10)
    assert encode_cell(values, flags, None, classes + np.uint8(9), coded, 0, 10)[4] == 10
