"""The spool against a model: nothing is lost without a record, nothing comes twice, order holds."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collector.spool.frame import Frame
from collector.spool.lane import LaneSpool
from collector.spool.options import Draft, LaneOptions
from collector.spool.segment import list_segments
from collector.wire.frames import Block
from collector.wire.headers import PushLane
from kernel.clock import VirtualClock
from tests.effort import few_of

Position = tuple[int, int]
OPTIONS = LaneOptions(PushLane.BILLING, 10**7, segment=500, keep=10**6, keep_bytes=10**7)


def join(group: int, blocks: Sequence[Block]) -> bytes:
    return b"|".join([b"%d" % group, *(block.content for block in blocks)])


class SpoolMachine(RuleBasedStateMachine):
    """Each rule is something that happens to a lane; `teardown` sends all that is left and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = VirtualClock()
        self.runner = asyncio.Runner()
        self.synced: dict[Position, list[bytes]] = {}  # the blocks of every draft that was said to be on disk
        self.settled: set[Position] = set()
        self.handed_out: dict[Position, Frame] = {}  # by this process, not settled
        self.newest_fresh: Position = (0, 0)
        self.spoiled = False
        self.count = 0
        self.lane = self.open()

    def open(self) -> LaneSpool:
        lane = LaneSpool(self.folder, OPTIONS, self.clock, join)
        lane.open()
        self.handed_out.clear()
        self.newest_fresh = (0, 0)
        return lane

    @rule(sizes=st.lists(st.integers(0, 120), min_size=1, max_size=4))
    def append(self, sizes: list[int]) -> None:
        drafts = []
        for size in sizes:
            self.count += 1
            drafts.append(Draft([Block(b"%d:" % self.count + b"x" * size, 1)], b"meta", 1, self.count))

        async def store() -> list[int]:
            return await asyncio.gather(*(self.lane.append(draft, self.lane.generation) for draft in drafts))

        for number, draft in zip(self.runner.run(store()), drafts, strict=True):
            self.synced.setdefault((self.lane.epoch, number), []).append(draft.blocks[0].content)

    @rule()
    def take_fresh(self) -> None:
        frame = self.lane._read(self.lane.boundary)
        if frame is not None:
            assert frame.position > self.newest_fresh, "out of order"
            self.newest_fresh = frame.position
            self.check(frame)

    @rule()
    def take_of_backlog(self) -> None:
        frame = self.lane._read((0, 0), self.lane.boundary)
        if frame is not None:
            self.check(frame)

    def check(self, frame: Frame) -> None:
        assert frame.position not in self.settled, "what was settled came again"
        assert frame.position not in self.handed_out, "twice"
        assert frame.payload == join(frame.group, [Block(one, 1) for one in self.synced[frame.position]])
        self.handed_out[frame.position] = frame

    @precondition(lambda self: self.handed_out)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.handed_out)))
        self.runner.run(self.lane.settle(self.handed_out.pop(position)))
        self.settled.add(position)

    @rule()
    def part_backlog(self) -> None:
        self.lane.part_backlog()

    @rule(seconds=st.sampled_from([-3600, 3600, 1]))
    def step_clock(self, seconds: int) -> None:
        self.clock.step_wall(seconds)

    @rule(tail=st.binary(max_size=40))
    def crash(self, tail: bytes) -> None:
        """The process dies, perhaps in the middle of a write that was not reported as done."""
        active = self.lane.shelf.active
        self.lane.release()
        if active is not None and (self.folder / str(active)).exists():
            with (self.folder / str(active)).open("ab") as file:
                file.write(b"\xf5bY\xfe"[: len(tail)] + tail)
        self.lane = self.open()

    @rule(data=st.data())
    def corrupt(self, data: st.DataObject) -> None:
        """A bit flips in a file that waits, while nothing runs."""
        self.lane.release()
        names = list_segments(self.folder)
        if names:
            path = self.folder / str(data.draw(st.sampled_from(names)))
            content = bytearray(path.read_bytes())
            if content:
                content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
                path.write_bytes(content)
        self.spoiled = True
        self.lane = self.open()

    @precondition(lambda self: self.lane.settled.epochs)
    @rule(data=st.data())
    def lose_a_segment(self, data: st.DataObject) -> None:
        """Somebody deletes a file that is followed by another of its epoch."""
        self.lane.release()
        names = list_segments(self.folder)
        followed = [one for one, after in pairwise(names) if one.epoch == after.epoch]
        if followed and (self.folder / "settled.json").exists():
            (self.folder / str(data.draw(st.sampled_from(followed)))).unlink()
        self.lane = self.open()

    @invariant()
    def sizes_are_those_on_disk(self) -> None:
        assert self.lane.bytes == sum(
            one.end for one in self.lane.shelf.segments.values()
        )  # and what is settled is not pending
        assert 0 <= self.lane.pending_bytes <= self.lane.bytes

    def teardown(self) -> None:
        try:
            self.lane.release()
            self.lane = self.open()
            arrived = set(self.settled)
            while (frame := self.lane._read((0, 0))) is not None:
                self.check(frame)
                arrived.add(frame.position)
                self.runner.run(self.lane.settle(frame))
            for epoch, number in sorted(self.synced.keys() - arrived):
                assert self.is_recorded(epoch, number), f"{epoch}.{number} is lost without a record"
        finally:
            self.lane.release()
            self.runner.close()
            shutil.rmtree(self.folder)

    def is_recorded(self, epoch: int, number: int) -> bool:
        for gap in self.lane.gaps.load():
            if gap.epoch == epoch and (gap.first or 0) <= number <= (10**9 if gap.last is None else gap.last):
                return True
        return False


SpoolMachine.TestCase.settings = settings(
    max_examples=few_of(60), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSpoolMachine = pytest.mark.deep(SpoolMachine.TestCase)
