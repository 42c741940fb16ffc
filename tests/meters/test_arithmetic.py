"""Laws of each kind of meter, against an oracle that goes sample by sample, and the published example W24."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel.steps import StepFunction
from kernel.window import Window
from metering.meters.arithmetic import (
    Int64,
    Starts,
    increments,
    integers,
    integral_by_piece,
    nearest_rank,
    slot_integrals,
    summed_by_piece,
)
from tests.meters import oracle

GOLDEN = Path(__file__).parents[1] / "golden" / "pricing.json"
SCALES = st.sampled_from([1, 8, 1000, 10**9])
FLOATS = st.floats() | st.integers(0, 2**54).map(float) | st.decimals(0, 1000, places=3).map(float)


def ints(values: Sequence[int]) -> Int64:
    return np.asarray(values, np.int64)


def starts_of(told: Sequence[tuple[int, int]]) -> Starts:
    return Starts(ints([start for _, start in told]), ints([seen for seen, _ in told]))


def grown(samples: Sequence[tuple[int, int]], told: Sequence[tuple[int, int]] = ()) -> tuple[Int64, Int64]:
    times = ints([at for at, _ in samples])
    return times, increments(times, ints([count for _, count in samples]), starts_of(told), 0)


def test_w24_the_anchored_increase_of_prometheus() -> None:
    """Windows `(t - 60 s, t]`: half-open on the other side, so each edge moves by a millisecond."""
    example = next(each for each in json.loads(GOLDEN.read_text())["examples"] if each["id"] == "W24")
    given_, expected = example["inputs"], example["expected"]
    for name in ("full", "gap"):
        words = given_[name].replace("|", "").split()
        samples = [(n * given_["step_s"] * 1000, int(word)) for n, word in enumerate(words) if word != "_"]
        times, amounts = grown(samples)
        found = []
        for at in given_["eval_s"]:
            end = at * 1000 + 1
            found += summed_by_piece(times, amounts, ints([end - given_["window_s"] * 1000, end])).tolist()
        assert found == expected[f"anchored_{name}"], name


def test_a_restart_that_the_value_hides_is_seen_by_the_start() -> None:
    """0 s: 5; then it restarts and counts to 9 before the next scrape: it grew by 9, not by 4."""
    assert grown([(1000, 5), (60_000, 9)], [(60_000, 20_000)])[1].tolist() == [0, 9]
    assert grown([(1000, 5), (60_000, 9)])[1].tolist() == [0, 4]


def test_a_start_before_the_sample_before_is_the_senders_word_on_the_past_and_no_reset() -> None:
    assert grown([(1000, 5), (60_000, 9)], [(60_000, 500)])[1].tolist() == [0, 4]


def test_the_first_sample_counts_from_zero_only_if_it_is_known_when_the_counter_began() -> None:
    times, counts = ints([1000]), ints([7])
    assert increments(times, counts, starts_of([(1000, 900)]), 500).tolist() == [7]
    assert increments(times, counts, starts_of([(1000, 400)]), 500).tolist() == [0]
    assert increments(times, counts, Starts.none(), 500).tolist() == [0]
    assert increments(times, counts, starts_of([(1000, 900)]), None).tolist() == [0]


@given(st.lists(FLOATS, max_size=30), SCALES)
def test_a_sample_becomes_the_integer_of_its_shortest_decimal(values: list[float], scale: int) -> None:
    found, valid = integers(np.asarray(values, np.float64), scale)
    listed = [int(each) if ok else None for each, ok in zip(found.tolist(), valid.tolist(), strict=True)]
    assert listed == [oracle.scaled(value, scale) for value in values]


@st.composite
def counters(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    times = sorted(draw(st.sets(st.integers(0, 200), max_size=25)))
    counts = draw(st.lists(st.integers(0, 50) | st.just(2**62), min_size=len(times), max_size=len(times)))
    seen = sorted(draw(st.sets(st.sampled_from(times), max_size=5))) if times else []
    begun = sorted(draw(st.lists(st.integers(0, 200), min_size=len(seen), max_size=len(seen))))
    told = [(at, start) for at, start in zip(seen, begun, strict=True) if start <= at]
    return list(zip(times, counts, strict=True)), told


@given(counters(), st.sets(st.integers(-10, 220), min_size=2, max_size=12))
def test_increases_telescope_and_equal_the_oracle(
    counter: tuple[list[tuple[int, int]], list[tuple[int, int]]], edges: set[int]
) -> None:
    samples, told = counter
    cut = sorted(edges)
    times, amounts = grown(samples, told)
    pieces = summed_by_piece(times, amounts, ints(cut)).tolist()
    expected = [oracle.increase(samples, told, *pair) for pair in itertools.pairwise(cut)]
    assert pieces == expected
    assert summed_by_piece(times, amounts, ints([cut[0], cut[-1]])).tolist() == [sum(pieces)]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 3) | st.just(2**61)), max_size=12),
    st.sets(st.integers(-5, 220), min_size=2, max_size=12),
)
def test_integrals_telescope_and_equal_the_oracle(parts: list[tuple[int, int, int]], edges: set[int]) -> None:
    """Levels near 2**61 leave 64 bits when they are held for a few milliseconds."""
    stretches, at = [], 0
    for gap, length, level in parts:
        stretches.append((at + gap, at + gap + length, level))
        at += gap + length
    cut = sorted(edges)
    starts, ends, levels = (ints([stretch[place] for stretch in stretches]) for place in range(3))
    pieces = integral_by_piece(starts, ends, levels, ints(cut)).tolist()
    assert pieces == [oracle.integral(stretches, *pair) for pair in itertools.pairwise(cut)]
    assert sum(pieces) == oracle.integral(stretches, cut[0], cut[-1])


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.integers(1, 100))
def test_the_nearest_rank_is_the_least_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    found = nearest_rank(values, percent)
    assert found in values
    enough = [each for each in values if 100 * sum(v <= each for v in values) >= percent * len(values)]
    assert found == min(enough)
    assert nearest_rank(values[::-1], percent) == found


def test_slots_tile_the_window_and_the_last_may_be_short() -> None:
    step = StepFunction.of([(0, 2), (400_000, 5), (700_000, 0)])
    assert slot_integrals(step, Window(0, 720_000)) == [600_000, 2 * 100_000 + 5 * 200_000, 5 * 100_000]
