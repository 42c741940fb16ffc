"""What goes into an encoder comes out of a reader, bit for bit, whatever happens on the way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.frames import (
    STALE_NAN_BITS,
    FamilyMetadata,
    FrameLimits,
    GroupGuard,
    GroupReader,
    Tick,
    open_body,
)
from tests.effort import costly
from tests.wire.frames.world import Numbers, Sample, Target, bodies, entry, from_bits, reader

ODD = [
    *(0.0, -0.0, 1.5, -2.25, 0.1, 123.45, 1e-7, 5e-324, 1.7976931348623157e308, math.inf, -math.inf),
    *(float(2**53), float(2**53 + 2), float(-(2**53) + 1), 2.0**63, -(2.0**63), 2.0**64, 9007199254740991.0),
    *(from_bits(STALE_NAN_BITS), from_bits(0x7FF8000000000001), from_bits(0xFFF8000000000123)),
]
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(-1000, 10**7).map(float),
    st.integers(-(10**6), 10**6).map(lambda cents: cents / 100),
    st.integers(0, 2**64 - 1).map(from_bits),
)
NAMES = st.sampled_from([entry(f"m{number}", number % 8, pod=f"p{number % 3}") for number in range(12)])

FAMILIES = st.builds(
    FamilyMetadata,
    st.sampled_from(["m0", "m1", "küche"]),
    st.integers(0, 7),
    st.sampled_from(["", "seconds"]),
    st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=20),
)


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["scrape"] * 6 + ["fail", "reset", "group", "again", "repeat", "lost"]))
    values = draw(st.dictionaries(NAMES, VALUES, max_size=12))
    times = st.integers(-(10**9), 10**13)
    return {
        "kind": kind,
        "values": values,
        "kept": draw(st.lists(NAMES, max_size=4)),
        "dated": draw(st.lists(st.tuples(NAMES, times, VALUES), max_size=5)),
        "histograms": draw(st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=2)),
        "metadata": draw(st.lists(FAMILIES, max_size=4, unique_by=lambda told: told.family)),
    }


class Run:
    """One target, read by a reader that sees all, one that starts with each group, and one rebuilt from roots."""

    def __init__(self) -> None:
        self.target = Target()
        self.group = 1
        self.numbers = Numbers()
        self.reader = GroupReader(self.numbers.assign)
        self.guard = GroupGuard()
        self.last: list[bytes] = []
        self.told: dict[str, FamilyMetadata] = {}  # what the reader of this group was told

    def take(self, step: dict[str, Any]) -> None:
        kind = step["kind"]
        if kind == "group":
            self.group += 1
            self.reader, self.guard = GroupReader(self.numbers.assign), GroupGuard()
            self.last, self.told = [], {}
        elif kind == "reset":
            self.target.encoder.reset()
        elif kind == "repeat":
            for body in self.last:
                assert self.reader.read(body, samples=False) == []
            return
        if kind == "fail":
            tick, expected = self.target.fail()
        else:
            kept = [one for one in step["kept"] if one in self.target.slots]
            exemplars = [(one, value, 5, b"trace\xffx\xff") for one, value in list(step["values"].items())[:1]]
            tick, expected = self.target.scrape(
                step["values"],
                dated=step["dated"],
                histograms=step["histograms"],
                exemplars=exemplars,
                kept=kept,
                metadata=step["metadata"],
            )
        blocks = self.target.encoder.encode(tick, self.group)
        if kind == "again":  # the segment was full: the same tick goes into another group
            self.group += 1
            self.reader, self.guard, self.told = GroupReader(self.numbers.assign), GroupGuard(), {}
            blocks = self.target.encoder.encode(tick, self.group)
        if kind == "lost":
            self.target.encoder.reset()
            return
        self.last = bodies(self.group, blocks)
        self.check(self.last, expected, step if kind != "fail" else {"histograms": [], "metadata": []})

    def check(self, pushed: list[bytes], expected: list[Sample], step: dict[str, Any]) -> None:
        rebuilt, numbers = self.rebuilt()
        rows = []
        for body in pushed:
            opened = open_body(body, FrameLimits())
            self.guard.check(opened)
            self.guard.apply(opened)
            rows += self.reader.read(body)
        assert self.numbers.samples(rows) == sorted(expected)
        again = [one for body in pushed for one in rebuilt.read(body)]
        assert numbers.samples(again) == sorted(expected)
        self.told |= {told.family: told for one in rows for told in one.metadata}
        if len(self.target.table):
            assert {told.family: told for told in step["metadata"]}.items() <= self.told.items()
        found = [(self.numbers.entries[series], message) for one in rows for series, message in one.histograms]
        assert sorted(found) == sorted(step["histograms"])
        assert self.guard.series == len(self.target.table)

    def rebuilt(self) -> tuple[GroupReader, Numbers]:
        """A reader that knows the state from `roots` alone."""
        other, numbers = reader()
        for body in self.reader.roots():
            assert other.read(body) == []
        return other, numbers


@costly(200)
@given(st.lists(steps(), min_size=1, max_size=12))
def test_any_sequence_of_scrapes_comes_back_bit_for_bit(sequence: list[dict[str, Any]]) -> None:
    run = Run()
    for step in sequence:
        run.take(step)


@costly(300)
@given(st.lists(VALUES, min_size=1, max_size=30), st.lists(VALUES, min_size=1, max_size=30))
def test_any_value_follows_any_other(first: list[float], second: list[float]) -> None:
    target, (read, numbers) = Target(keyframe_every=100), reader()
    names = [entry(f"m{number}") for number in range(max(len(first), len(second)))]
    for values in (first, second, first):
        tick, expected = target.scrape(dict(zip(names, values, strict=False)), kept=list(target.slots))
        rows = [one for body in bodies(1, target.encoder.encode(tick, 1)) for one in read.read(body)]
        assert numbers.samples(rows) == sorted(expected)


def test_many_cells_fit_into_bodies_of_a_million_bytes() -> None:
    target, count = Target(), 150_000
    read, numbers = reader()
    names = [
        entry("milvus_series", node=f"{number * 7919 % 1_000_003:x}", pod=str(number)) for number in range(count)
    ]
    born = target.table.take(names)
    dice = np.random.default_rng(1)
    values = dice.random(count) * 1e6
    none = np.empty(0, np.int32)
    seen: dict[int, float] = {}
    for turn in range(3):
        tick = Tick(1000 * turn, values + turn, None, none, none, born if turn == 0 else none)
        blocks = target.encoder.encode(tick, 1)
        pushed = bodies(1, blocks)
        assert max(map(len, pushed)) <= 1_000_000
        assert sum(block.samples for block in blocks) == count
        for body in pushed:
            for rows in read.read(body):
                seen.update(zip(rows.series.tolist(), rows.values.tolist(), strict=True))
        assert len(seen) == count
        expected = values + turn
        order = map(numbers.known.__getitem__, names)
        assert all(seen[number] == expected[slot] for slot, number in enumerate(order))


def test_a_quiet_stream_gives_the_same_array_of_series_again() -> None:
    target, (read, _) = Target(keyframe_every=2), reader()
    names = [entry(f"m{number}") for number in range(5)]
    found = []
    for turn in range(5):
        tick, _ = target.scrape({one: float(turn) for one in names})
        [rows] = [one for body in bodies(1, target.encoder.encode(tick, 1)) for one in read.read(body)]
        found.append(rows.series)
    assert all(one is found[0] for one in found)


def test_what_was_not_stored_makes_the_next_one_whole() -> None:
    target, (read, numbers) = Target(), reader()
    one, two = entry("a"), entry("b")
    target.encoder.encode(target.scrape({one: 1.0})[0], 1)
    target.encoder.reset()
    tick, expected = target.scrape({one: 2.0, two: 3.0})
    rows = [row for body in bodies(1, target.encoder.encode(tick, 1)) for row in read.read(body)]
    assert numbers.samples(rows) == sorted(expected)
