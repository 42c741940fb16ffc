"""Groups, ages and quotas of a lane."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import RootNeeded
from collector.spool.bodies import join_drafts
from collector.spool.gaps import GapReason
from collector.spool.intervals import Intervals
from collector.spool.lane import LaneSpool
from collector.spool.options import Draft, LaneOptions, PayloadDraft
from collector.spool.segment import list_segments
from collector.wire.frames import MAX_BODY_BYTES, MAX_BODY_SAMPLES, Block
from collector.wire.headers import PushLane
from kernel.clock import Clock, SystemClock, VirtualClock


def draft(size: int = 100, samples: int = 1) -> Draft:
    return Draft([Block(b"x" * size, samples)], b"", samples, 1)


def join(_group: int, blocks: Sequence[Block]) -> bytes:
    return b"".join(block.content for block in blocks)


def open_lane(folder: Path, clock: Clock | None = None, **options: float) -> LaneSpool:
    chosen = LaneOptions(PushLane.BULK, 10**8, **options)  # type: ignore[arg-type]
    lane = LaneSpool(folder, chosen, clock or SystemClock(), join)
    lane.open()
    return lane


async def test_a_segment_ends_by_its_size_or_its_age_whatever_the_wall_clock_does(tmp_path: Path) -> None:
    clock = VirtualClock()
    lane = open_lane(tmp_path, clock, segment=1000, segment_age=60)
    await lane.append(draft(), 1)
    clock.step_wall(7200)
    assert lane.generation == 1
    await clock.advance(61)
    assert lane.generation == 2
    await lane.append(draft(2000), 2)
    assert lane.generation == 3
    await lane.close()
    assert [name.number for name in list_segments(tmp_path)] == [1, 2]


async def test_blocks_of_a_closed_group_are_not_taken(tmp_path: Path) -> None:
    lane = open_lane(tmp_path, segment=100)
    await lane.append(draft(), lane.generation)
    with pytest.raises(RootNeeded):
        await lane.append(draft(), 1)
    assert await lane.append(draft(), lane.generation) == 2
    await lane.close()


async def test_what_was_called_before_the_group_ended_is_written_into_it(tmp_path: Path) -> None:
    lane = open_lane(tmp_path, segment=10**6)
    before = asyncio.create_task(lane.append(draft(), lane.generation))
    await asyncio.sleep(0)
    lane.part_backlog()
    await before
    await lane.append(draft(), lane.generation)
    assert next(name.number for name in list_segments(tmp_path)) == 1
    await lane.close()


async def test_bulk_that_is_too_old_goes_with_a_record(tmp_path: Path) -> None:
    lane = open_lane(tmp_path, segment=100, max_age=60)
    for _ in range(3):
        await lane.append(draft(), lane.generation)
    for name in list_segments(tmp_path)[:2]:
        os.utime(tmp_path / str(name), (1, 1))
    await lane.append(draft(), lane.generation)
    gaps = lane.gaps.load()
    assert [(gap.reason, gap.first, gap.last) for gap in gaps] == [(GapReason.QUOTA, 1, 1), (GapReason.QUOTA, 2, 2)]
    assert {gap.detail for gap in gaps} == {"older than max_age"}
    await lane.close()


def test_bodies_keep_to_the_limits_of_a_push_and_promise_only_what_is_whole() -> None:
    big = Draft([Block(b"x" * 900_000, 1), Block(b"y" * 900_000, 1)], b"m", 2, 7)
    bodies = join_drafts([draft(), big, draft(), PayloadDraft(1, b"", b"rw2", 9), draft()])
    assert [(body.samples, body.ends, body.complete_through_ms) for body in bodies] == [
        (2, 1, 1),
        (2, 2, 7),
        (1, 1, 9),
        (1, 1, 1),
    ]
    assert all(body.size <= MAX_BODY_BYTES for body in bodies)
    many = join_drafts([draft(samples=MAX_BODY_SAMPLES // 2 + 1) for _ in range(3)])
    assert len(many) == 3


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 8))))
def test_intervals_are_a_set(ranges: list[tuple[int, int]]) -> None:
    found, model = Intervals(), set()
    for first, more in ranges:
        found.add(first, first + more)
        model |= set(range(first, first + more + 1))
    assert {number for number in range(80) if number in found} == model
    runs = list(found)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(runs))
    missing = {number for first, last in found.missing(1, 79) for number in range(first, last + 1)}
    assert missing == set(range(1, 80)) - model


class Contended:
    """The lock of a shelf, which another thread always gets first, and puts away what is done."""

    def __init__(self, lane: LaneSpool) -> None:
        self._shelf = lane.shelf
        self._lock = lane.shelf.lock
        self._is_other = False

    def __enter__(self) -> None:
        if not self._is_other:
            self._is_other = True
            self._shelf.finish()
            self._is_other = False
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("keep", [0, 1000])
async def test_the_last_frame_of_a_segment_is_handed_out_whoever_puts_segments_away_meanwhile(
    tmp_path: Path, keep: float
) -> None:
    lane = open_lane(tmp_path, segment=300, keep=keep, keep_bytes=10**6)
    for _ in range(6):
        await lane.append(draft(), lane.generation)
    lane.shelf.lock = Contended(lane)  # type: ignore[assignment]
    taken = []
    for _ in range(6):
        frame = await asyncio.wait_for(lane.next_frame(), 30)
        taken.append(frame.sequence)
        await lane.settle(frame)
    assert taken == [1, 2, 3, 4, 5, 6]
    assert not list(lane.gaps.load())
    await lane.close()
