"""Laws of the horizon: in whatever order pushes come, and however often, it ends the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.ids import CollectorId
from metering.gaps import GivenUp
from metering.lake.epochs import MOST_CUT_PUSHES, MOST_INTERVALS, Judgement
from metering.lake.errors import LakeDamaged
from metering.lake.horizon import MOST_EPOCHS, Horizon, Source, SourceState, advance, give_up, judge, refuse
from metering.lake.horizon_format import parse_horizon, render_horizon
from metering.record import BatchHeader, Lane
from tests.effort import costly
from tests.lake.setting import ACME, T0, Push

SOURCE = Source(ACME, CollectorId("col-a"), Lane.BILLING)


def header(
    number: int, epoch: int = 1, part: int = 0, through: int | None = None, received: int = T0
) -> BatchHeader:
    sent = Push([], number=number, epoch=epoch, part=part, complete_through_ms=through, received_ms=received)
    return sent.header()


def after(headers: Sequence[BatchHeader], state: SourceState | None = None) -> SourceState:
    """What an intake makes of these pushes."""
    for each in headers:
        if judge(state, each) is Judgement.NEW:
            state = advance(state, each)
    assert state is not None
    return state


@st.composite
def pushes(draw: st.DrawFn) -> list[BatchHeader]:
    """What a collector sends over some boots, part of it lost; the first push of a boot closes the one before."""
    sent, previous = [], None
    for epoch in range(1, draw(st.integers(1, 4)) + 1):
        last = draw(st.integers(1, 12))
        for number in range(1, last + 1):
            parts = draw(st.sampled_from([[0], [0], [0], [0, 1, 2], [4096, 4097, 8192]]))
            at = epoch * 1000 + number * 10
            for part in parts:
                through = at if part == parts[-1] else None
                one = header(number, epoch, part, through, at + draw(st.integers(0, 500)))
                sent.append(replace(one, previous=previous) if number == 1 else one)
        previous = (epoch, last)
    return draw(st.lists(st.sampled_from(sent), min_size=1, unique=True))


@costly(300)
@given(sent=pushes(), data=st.data())
def test_any_order_and_repetition_give_the_same_horizon(sent: list[BatchHeader], data: st.DataObject) -> None:
    again = data.draw(st.permutations([*sent, *data.draw(st.lists(st.sampled_from(sent), max_size=10))]))
    assert after(again) == after(sent)
    assert all(judge(after(sent), each) is Judgement.REPEATED for each in sent)


@costly(200)
@given(sent=pushes(), more=pushes())
def test_what_was_not_seen_is_never_taken_for_a_repetition(
    sent: list[BatchHeader], more: list[BatchHeader]
) -> None:
    state = after(sent)
    seen = {each.sequence for each in sent}
    for each in more:
        assert (judge(state, each) is Judgement.REPEATED) == (each.sequence in seen)


@costly(200)
@given(sent=pushes())
def test_the_horizon_round_trips(sent: list[BatchHeader]) -> None:
    state = refuse(after(sent), header(40, epoch=2))
    horizon = Horizon({SOURCE: state, SOURCE._replace(lane=Lane.BULK): SourceState(5)})
    assert parse_horizon(render_horizon(horizon, "commit-a")) == horizon


@costly(200)
@given(sent=pushes())
def test_a_promise_counts_once_all_below_it_has_come(sent: list[BatchHeader]) -> None:
    """Against a model that looks at every push that was sent up to the promise."""
    state = after(sent)
    came = {(each.sequence.epoch, each.sequence.number) for each in sent if each.sequence}
    closed = {each.previous for each in sent if each.previous}
    expected: int | None = None
    for epoch in range(1, 6):
        numbers = {number for at, number in came if at == epoch}
        last = max([*numbers, *(number for at, number in closed if at == epoch)], default=0)
        whole = 0
        while whole + 1 in numbers:
            whole += 1
        kept = [each for each in sent if each.sequence and each.sequence.epoch == epoch]
        reached = [
            each.complete_through_ms
            for each in kept
            if each.complete_through_ms and each.sequence and each.sequence.number <= whole
        ]
        expected = max([*reached, *([expected] if expected is not None else [])], default=None)
        if whole < last:
            break
    assert state.complete_through_ms() == expected


def test_fresh_pushes_beside_a_backlog_hold_the_promise_back_until_the_hole_is_filled() -> None:
    state = after([header(1, through=10), header(5, through=50), header(6, through=60)])
    assert (state.complete_through_ms(), state.missing_pushes) == (10, 3)
    state = after([header(2, through=20), header(4, through=40)], state)
    assert (state.complete_through_ms(), state.missing_pushes) == (20, 1)
    state = after([header(3, through=30)], state)
    assert (state.complete_through_ms(), state.missing_pushes) == (60, 0)


def test_an_epoch_that_is_still_on_its_way_holds_back_the_next() -> None:
    fresh = replace(header(1, epoch=2, through=900, received=T0 + 7), previous=(1, 3))
    state = after([header(1, through=10), fresh])
    assert (state.complete_through_ms(), state.missing_pushes) == (10, 2)
    state = after([header(2, through=20), header(3, through=30)], state)
    assert (state.complete_through_ms(), state.missing_pushes) == (900, 0)
    unseen = after([replace(fresh, previous=(1, 3))])
    assert (unseen.complete_through_ms(), unseen.missing_pushes) == (None, 3)


def test_a_hole_that_is_not_filled_expires() -> None:
    state = after([header(1, through=10, received=T0), header(3, through=30, received=T0 + 1000)])
    assert state.complete_through_ms(T0 + 1000) == 10
    assert state.complete_through_ms(T0 + 1001) == 30
    fresh = replace(header(1, epoch=2, through=900, received=T0 + 2000), previous=(1, 9))
    state = after([header(2, through=20, received=T0 + 3000), fresh], state)
    assert state.complete_through_ms(T0 + 2000) == 30
    assert state.complete_through_ms(T0 + 2001) == 900


def test_a_refused_push_is_missing_and_nobody_waits_for_it() -> None:
    state = refuse(after([header(1, through=10)]), header(2, through=20))
    state = after([header(3, through=30)], state)
    assert (state.complete_through_ms(), state.missing_pushes) == (30, 1)
    repaired = header(2, through=20)
    assert judge(state, repaired) is Judgement.NEW
    state = after([repaired], state)
    assert state.missing_pushes == 0
    assert judge(state, repaired) is Judgement.REPEATED


def test_beyond_the_bounds_nothing_is_taken_for_a_repetition_that_may_be_new() -> None:
    many = 3 * MOST_INTERVALS
    state = after([header(2 * number) for number in range(1, many)])
    ((_, epoch),) = state.epochs
    assert len(epoch.intervals) == MOST_INTERVALS
    assert state.missing_pushes == many - 1
    assert judge(state, header(3)) is Judgement.UNSURE
    assert judge(state, header(2 * many - 3)) is Judgement.NEW
    assert judge(state, header(2 * many - 2)) is Judgement.REPEATED

    state = after([header(number, part=part) for number in range(1, 3 * MOST_CUT_PUSHES) for part in (0, 1)])
    assert judge(state, header(1, part=7)) is Judgement.UNSURE
    assert judge(state, header(3 * MOST_CUT_PUSHES - 1, part=7)) is Judgement.NEW
    assert judge(state, header(3 * MOST_CUT_PUSHES - 1, part=1)) is Judgement.REPEATED

    state = after([header(2, epoch=epoch) for epoch in range(1, MOST_EPOCHS + 3)])
    assert len(state.epochs) == MOST_EPOCHS
    assert state.missing_pushes == MOST_EPOCHS + 2
    assert judge(state, header(1, epoch=2)) is Judgement.UNSURE


def test_a_horizon_of_version_1_is_read() -> None:
    rows = [
        ["acme", "prod", "col-a", "live", [7, 5, 0], T0, T0 - 1, 2],
        ["acme", "prod", "col-b", "history", [7, 5, 4096], T0, None, 0],
        ["acme", "prod", "col-c", "live", None, T0, None, 0],
    ]
    horizon = parse_horizon(json.dumps({"version": 1, "commit": "c", "sources": rows}).encode())
    state = horizon.sources[SOURCE]
    assert (state.complete_through_ms(), state.missing_pushes) == (T0 - 1, 2)
    assert judge(state, header(5, epoch=7)) is Judgement.REPEATED
    assert judge(state, header(6, epoch=7)) is Judgement.NEW
    assert judge(state, header(6, epoch=6)) is Judgement.UNSURE
    assert after([header(6, epoch=7, through=T0)], state).missing_pushes == 2
    for broken in (b"{}", b'{"version": 3, "sources": []}', b'{"version": 2, "sources": [[1]]}'):
        with pytest.raises(LakeDamaged):
            parse_horizon(broken)


def test_numbers_that_never_come_are_not_waited_for_and_stay_missing() -> None:
    state = after([header(1, through=10), header(5, through=50)])
    assert (state.complete_through_ms(), state.missing_pushes) == (10, 3)
    notice = header(2, part=600_000)
    state = give_up(state, notice, [GivenUp(2, 3, "quota")])
    assert (state.complete_through_ms(), state.missing_pushes) == (10, 3)
    state = give_up(state, notice, [GivenUp(4, 4, "damage"), GivenUp(2, 3, "quota")])
    assert (state.complete_through_ms(), state.missing_pushes) == (50, 3)
    assert state.given_up == (("damage", 1), ("quota", 2))
    assert parse_horizon(render_horizon(Horizon({SOURCE: state}), "commit-a")).sources[SOURCE] == state


def test_what_was_given_up_and_comes_all_the_same_is_stored_once() -> None:
    state = give_up(after([header(1)]), header(2, part=600_000), [GivenUp(2, 4, "quota")])
    assert judge(state, header(3)) is Judgement.NEW
    state = after([header(3, through=30)], state)
    assert (judge(state, header(3)), state.missing_pushes) == (Judgement.REPEATED, 2)
    again = give_up(state, header(2, part=600_000), [GivenUp(2, 4, "quota")])
    assert (again.missing_pushes, again.given_up) == (2, state.given_up)


def test_the_tail_of_an_earlier_boot_that_never_comes_holds_nobody_back() -> None:
    fresh = replace(header(1, epoch=2, through=900), previous=(1, 3))
    state = after([header(1, through=10), fresh])
    assert state.complete_through_ms() == 10
    state = give_up(state, header(2, part=600_000), [GivenUp(2, 3, "purged")])
    assert (state.complete_through_ms(), state.missing_pushes) == (900, 2)


def test_a_notice_of_the_first_push_of_a_boot_says_where_the_boot_before_ended() -> None:
    state = after([header(1, through=10)])
    notice = replace(header(1, epoch=2, part=600_000), previous=(1, 2))
    state = after([header(2, epoch=2, through=900)], give_up(state, notice, [GivenUp(1, 1, "quota")]))
    assert (state.complete_through_ms(), state.missing_pushes) == (10, 2)  # number 2 of the first boot is under way


def test_a_notice_of_a_boot_that_nobody_remembers_changes_nothing() -> None:
    state = after([header(1, epoch=epoch) for epoch in range(1, MOST_EPOCHS + 4)])
    changed = give_up(state, header(2, epoch=1, part=600_000), [GivenUp(2, 2**60, "quota")])
    assert (changed.epochs, changed.missing_pushes) == (state.epochs, state.missing_pushes)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_notices_are_bounded_and_cost_nothing_that_came(data: st.DataObject) -> None:
    """A hostile collector gives up all there is and then sends every second number."""
    state = give_up(None, header(1, part=600_000), [GivenUp(1, 2**60, "quota")])
    numbers = data.draw(st.lists(st.integers(1, 400), min_size=1, max_size=200, unique=True))
    for number in numbers:
        if judge(state, header(number)) is Judgement.NEW:
            state = advance(state, header(number))
    ((_, epoch),) = state.epochs
    assert len(epoch.refused) <= MOST_INTERVALS
    assert len(epoch.intervals) <= MOST_INTERVALS
