"""A plan that follows what comes and goes is the plan that counting all rows anew gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector.exposition import Reading
from collector.native import lane_rows
from collector.policy import AllowList
from collector.policy_settings import AllowRule, PolicySettings
from collector.relabel import Action, RelabelRule
from collector.scrape.census import _LaneCensus
from collector.scrape.plan import LanePlan, Plan, RowFacts, make_plan
from collector.scrape.series import SeriesRules
from collector.scrape.state import TargetState
from collector.scrape.stream import Stream
from tests.collector.exposing import WITHOUT_KERNEL
from tests.effort import costly

POLICY = PolicySettings(
    allow=(AllowRule(metrics=("up", "m_*", "licence_*", "scrape_*"), labels=("a", "job", "instance")),)
)
LINES = (
    *(b'm_%d{a="%d"} 1' % (number % 3, number) for number in range(12)),
    *(b'licence_used{a="%d"} 2' % number for number in range(4)),
    *(b'go_gc{a="%d"} 3' % number for number in range(3)),  # dropped
    *(b'other{a="%d"} 4' % number for number in range(3)),  # denied
    b'm_0{a="%b"} 5' % (b"x" * 40_000),  # too long
    b'm_0{a="1",} 6',  # the series of a key that is spelled otherwise
    b'm_0{a="3",secret="1"} 7', b'm_0{a="3",secret="2"} 7', b'm_0{secret="3"} 7',  # the policy makes some equal
    b'm_1{a="1"} 8 900', b'm_9{a="1"} 9 900', b'licence_used{a="0"} 9 900',  # dated
    b'm_2{a="2"}  10', b"m_7 11",
)  # fmt: skip
pages = st.lists(st.lists(st.integers(0, len(LINES) - 1), max_size=25), min_size=1, max_size=8)
usual = st.lists(st.lists(st.integers(0, 20), max_size=15, unique=True), min_size=1, max_size=8)


def make_state(sample_limit: int, *, honor_timestamps: bool) -> TargetState:
    drop = RelabelRule(action=Action.DROP, source_labels=("__name__",), regex="go_.*")
    rules = SeriesRules(
        (("instance", "i:1"), ("job", "j")), False, (drop,), (), AllowList(POLICY, b"k" * 32),
        is_billing=lambda name: name.startswith("licence"),
    )  # fmt: skip
    return TargetState(rules, honor_timestamps=honor_timestamps, sample_limit=sample_limit)


def shape(plan: Plan) -> dict[str, Any]:
    """All that a plan says; rows in any order."""
    numbers = {name: getattr(plan, name) for name in Plan.__slots__ if name != "lanes"}
    return {**numbers, "lanes": [lane_shape(lane) for lane in plan.lanes]}


def lane_shape(lane: LanePlan) -> tuple[Any, ...]:
    return (
        sorted(zip(lane.numbered_rows().tolist(), lane.slots.tolist(), strict=True)),
        sorted(zip(lane.dated_rows.tolist(), lane.dated_slots.tolist(), strict=True)),
        np.flatnonzero(lane.referenced).tolist(),
        np.flatnonzero(lane.present).tolist(),
        dict(lane.counts),
    )


def check(some: list[list[int]], *, honor_timestamps: bool, lost: set[int]) -> int:
    """How many plans needed no look at each row."""
    state = make_state(0, honor_timestamps=honor_timestamps)
    kept = [state._reader.read(bytearray(), "text/plain")]
    keep = state._reader.keep

    def note(reading: Reading) -> None:
        kept.append(reading)
        keep(reading)

    state._reader.keep = note  # type: ignore[method-assign]
    followed = 0
    for number, page in enumerate(some):
        scrape = state.scraped(body_of(page), "text/plain", 1_000 + number, 0.1)
        reading = kept[-1]
        is_dated = np.zeros(len(reading), np.bool_)
        is_dated[list(reading.timestamps)] = honor_timestamps
        codes = state._census.codes[reading.numbered.rows]
        anew = make_plan(codes, RowFacts(reading.order(), is_dated, None), state.streams)
        assert shape(state._plan) == shape(anew)
        followed += state._census.plan(reading.numbered) is not None
        for lane in (0, 1):
            state.encode(scrape, lane, 1)
            if number not in lost:
                state.stored(scrape, lane)
    return followed


@pytest.mark.skipif(lane_rows is None, reason=WITHOUT_KERNEL)
@given(st.data(), st.integers(0, 1))
@settings(max_examples=100, deadline=None)
def test_the_kernel_finds_the_rows_of_a_lane_as_numpy_does(data: st.DataObject, lane: int) -> None:
    assert lane_rows is not None
    codes = np.array(data.draw(st.lists(st.integers(-20, 40), min_size=1, max_size=40)), np.int32)
    numbers = np.array(data.draw(st.permutations(range(len(codes)))), np.int32)
    numbers = numbers[: data.draw(st.integers(0, len(codes)))]
    ours, theirs = (_LaneCensus(Stream(), finder) for finder in (None, lane_rows))
    count = int(np.count_nonzero((codes[numbers] >= 0) & (codes[numbers] & 1 == lane)))
    ours.keys = theirs.keys = count
    found = [one._rows(codes, numbers, lane) for one in (ours, theirs)]
    told = [(rows if rows is None else rows.tolist(), slots.tolist()) for rows, slots in found]
    assert told[0] == told[1]
    for wrong in (count - 1, count + 1):
        with pytest.raises(ValueError, match="rows"):
            lane_rows(codes, numbers, lane, wrong)
    for outside in (-1, len(codes)):
        with pytest.raises(ValueError, match="without a code"):
            lane_rows(codes, np.array([outside], np.int32), lane, 1)


def body_of(page: list[int]) -> bytearray:
    return bytearray(b"".join(LINES[at] + b"\n" for at in page))


@given(pages, st.booleans(), st.sets(st.integers(0, 8)))
@costly(80)
def test_a_followed_plan_is_that_of_all_rows(some: list[list[int]], honors: bool, lost: set[int]) -> None:
    check(some, honor_timestamps=honors, lost=lost)


@given(usual, st.sets(st.integers(0, 8)))
@settings(max_examples=30, deadline=None)
def test_usual_pages_need_no_look_at_each_row(some: list[list[int]], lost: set[int]) -> None:
    assert check(some, honor_timestamps=True, lost=lost) == len(some)


@given(pages, st.integers(1, 12), st.booleans())
@example([[0, 24], [], [3]], 1, False)
@costly(60)
def test_a_limit_lets_the_same_out_whether_rows_are_looked_at_or_not(
    some: list[list[int]], sample_limit: int, honors: bool
) -> None:
    fates = []
    for looks in (False, True):
        state = make_state(sample_limit, honor_timestamps=honors)
        with pytest.MonkeyPatch.context() as patched:
            if looks:
                patched.setattr(state, "_has_room", lambda reading: False)
                patched.setattr(state._census, "plan", lambda numbered: None)
            fates.append(list(told(state, some)))
    assert fates[0] == fates[1]


def told(state: TargetState, some: list[list[int]]) -> Any:
    """What arrives of each page, by entry: values, ends, and what was counted."""
    for number, page in enumerate(some):
        scrape = state.scraped(body_of(page), "text/plain", 1_000 + number, 0.1)
        arrived: list[Any] = []
        for lane, stream in enumerate(state.streams):
            tick = scrape.lanes[lane].tick
            live = stream.table.live()
            present = np.flatnonzero(live if tick.present is None else tick.present & live)
            arrived.append(sorted(zip(stream.table.entries(present), tick.values[present].tolist(), strict=True)))
            arrived.append(len(tick.stale))
            state.encode(scrape, lane, 1)
            state.stored(scrape, lane)
        counted = (scrape.denied, scrape.over_limit, scrape.duplicates, scrape.collided, scrape.too_long)
        yield arrived, counted, scrape.added, scrape.relabelled
