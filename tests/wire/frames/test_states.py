"""What a reader may build on, what it must refuse, and that a gateway's guard judges alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.frames import (
    FrameLimits,
    GroupGuard,
    GroupReader,
    OldState,
    UnknownState,
    join_blocks,
    open_body,
)
from tests.wire.frames.world import Numbers, Sample, Target, bodies, entry, reader

T = TypeVar("T")
A, B, C = entry("a"), entry("b"), entry("c", pod="p")
Pushed = list[tuple[list[bytes], list[Sample]]]


def pushed() -> Pushed:
    """The bodies of some scrapes of one group: a root, a quiet one, a birth, a swap of two series, a quiet one."""
    target = Target(keyframe_every=100)
    scrapes = [{A: 1.0}, {A: 2.0}, {A: 3.0, B: 1.5}, {B: 2.5, C: 7.0}, {B: 3.5, C: 8.0}]
    made = []
    for values in scrapes:
        tick, expected = target.scrape(values)
        made.append((bodies(1, target.encoder.encode(tick, 1)), sorted(expected)))
    return made


def known_to(numbers: Numbers, read: GroupReader, body: bytes) -> list[Sample]:
    return numbers.samples(read.read(body))


def test_a_reader_that_missed_a_change_says_so_and_roots_help() -> None:
    made, (whole, _), (late, numbers) = pushed(), reader(), reader()
    bodies_ = [body for each, _ in made for body in each]
    assert len(bodies_) == 5
    late.read(bodies_[0])
    with pytest.raises(UnknownState, match="send roots"):
        late.read(bodies_[3])
    for body in bodies_[:3]:
        whole.read(body)
    for root in whole.roots():
        assert late.read(root) == []
    assert known_to(numbers, late, bodies_[3]) == made[3][1]
    assert known_to(numbers, late, bodies_[4]) == made[4][1]


def test_a_quiet_block_may_be_missed_and_may_come_late() -> None:
    made, (read, _) = pushed(), reader()
    read.read(made[0][0][0])
    read.read(made[2][0][0])
    with pytest.raises(UnknownState):
        read.read(made[1][0][0])  # its bases are gone: the sender has to go back with roots


def test_repeats_change_nothing() -> None:
    made, (read, numbers) = pushed(), reader()
    for position, (each, _) in enumerate(made):
        for body in each:
            read.read(body)
        for earlier, _ in made[: position + 1]:
            for body in earlier:
                assert read.read(body, samples=False) == []
    again = made[-1][0][0]
    assert known_to(numbers, read, again) == made[-1][1]


def test_a_delayed_root_does_not_turn_a_reader_back_but_lets_a_sender_start_again_at_a_gateway() -> None:
    made, (read, numbers), guard = pushed(), reader(), GroupGuard()
    for each, _ in made[:3]:
        for body in each:
            read.read(body)
            guard.apply(open_body(body, FrameLimits()))
    first = made[0][0][0]
    assert read.read(first, samples=False) == []
    assert known_to(numbers, read, made[3][0][0]) == made[3][1]
    guard.apply(open_body(first, FrameLimits()))
    with pytest.raises(UnknownState):
        guard.check(open_body(made[3][0][0], FrameLimits()))
    for each, _ in made[1:]:
        for body in each:
            guard.check(open_body(body, FrameLimits()))
            guard.apply(open_body(body, FrameLimits()))


def test_a_sender_that_resumes_earlier_is_followed_by_the_gateway_and_known_to_the_reader() -> None:
    """After a crash it pushes again what was read long ago, from roots on: a reader's state stays where it is."""
    made, (ahead, numbers), (behind, _), guard = pushed(), reader(), reader(), GroupGuard()
    for each, _ in made[:4]:
        for body in each:
            ahead.read(body)
            guard.apply(open_body(body, FrameLimits()))
    behind.read(made[0][0][0])
    for root in behind.roots():
        assert ahead.read(root) == []
        guard.apply(open_body(root, FrameLimits()))
    for each, _ in made[1:4]:
        for body in each:
            guard.apply(open_body(body, FrameLimits()))
            assert ahead.read(body, samples=False) == []
    with pytest.raises(OldState):
        ahead.read(made[1][0][0])
    guard.check(open_body(made[4][0][0], FrameLimits()))
    assert known_to(numbers, ahead, made[4][0][0]) == made[4][1]


@pytest.mark.parametrize("missing", range(4))
def test_the_guard_and_the_reader_agree_on_what_is_known(missing: int) -> None:
    """Leave one push out: what the reader can't read, the guard refuses, and nothing else."""
    made, (read, _), guard = pushed(), reader(), GroupGuard()
    for position, (each, _) in enumerate(made):
        for body in each:
            if position == missing:
                continue
            opened = open_body(body, FrameLimits())
            verdict = judged(read.read, body)
            assert verdict == judged(guard.check, opened)
            if verdict is None:
                guard.apply(opened)


def judged(call: Callable[[T], object], body: T) -> type[Exception] | None:
    try:
        call(body)
    except (UnknownState, WireError) as error:
        return type(error)
    return None


def test_a_check_changes_nothing() -> None:
    made, guard = pushed(), GroupGuard()
    root = open_body(made[0][0][0], FrameLimits())
    guard.check(root)
    assert (guard.slots, guard.series) == (0, 0)
    with pytest.raises(UnknownState):
        guard.check(open_body(made[1][0][0], FrameLimits()))
    guard.apply(root)
    assert (guard.slots, guard.series) == (1, 1)
    guard.check(open_body(made[1][0][0], FrameLimits()))


def test_a_group_can_not_grow_beyond_its_limit() -> None:
    target, limits = Target(), FrameLimits(max_slots=3)
    tick, _ = target.scrape({entry(f"m{number}"): 1.0 for number in range(4)})
    body = join_blocks(1, target.encoder.encode(tick, 1))
    with pytest.raises(BodyTooLarge):
        GroupGuard(limits).check(open_body(body, FrameLimits()))
    with pytest.raises(BodyTooLarge):
        GroupReader(Numbers().assign, limits=limits).read(body)


def test_a_body_of_another_group_is_refused() -> None:
    target, (read, _) = Target(), reader()
    tick, _ = target.scrape({A: 1.0})
    read.read(join_blocks(1, target.encoder.encode(tick, 1)))
    with pytest.raises(WireError, match="group"):
        read.read(join_blocks(2, target.encoder.encode(tick, 2)))


def test_one_bad_stream_does_not_spoil_the_state_of_the_others() -> None:
    """Blocks of two streams in one body: the one that is unknown fails the body, the other's state is taken in."""
    one, two, (read, numbers) = Target(stream=1), Target(stream=2), reader()
    first = one.encoder.encode(one.scrape({A: 1.0})[0], 1)
    second = two.encoder.encode(two.scrape({B: 1.0})[0], 1)
    read.read(join_blocks(1, second))
    birth = two.encoder.encode(two.scrape({B: 1.0, C: 2.0})[0], 1)
    quiet = one.encoder.encode(one.scrape({A: 2.0})[0], 1)
    with pytest.raises(UnknownState):
        read.read(join_blocks(1, [*quiet, *birth]))
    tick, expected = two.scrape({B: 2.0, C: 3.0})
    assert known_to(numbers, read, join_blocks(1, two.encoder.encode(tick, 1))) == sorted(expected)
    assert first


def test_a_body_knows_its_limits() -> None:
    target = Target()
    tick, _ = target.scrape({A: 1.0})
    [block] = target.encoder.encode(tick, 1)
    with pytest.raises(ValueError, match="too much"):
        join_blocks(1, [block] * 20_000)
