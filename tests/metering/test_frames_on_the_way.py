"""Nothing is lost between a sender of frames and the reader of the log, whatever happens on the way.

One sender with two gateways before one log. Answers get lost, appends hang and land late, gateways forget, the
sender starts again from an older push, the reader where it is told. What was acknowledged is read exactly once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector.wire.frames import FrameLimits, GroupGuard, GroupReader, UnknownState, join_blocks, open_body
from kernel.ids import CollectorId
from metering.frames import SourceReaders
from metering.record import BatchHeader, parse_canonical_labels
from metering.record import Sequence as Push
from tests.effort import few_of
from tests.metering.test_frames import HEADER
from tests.wire.frames.world import Sample, Target, entry

NAMES = [entry(f"m{number}") for number in range(6)]
PAGES = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9).map(float), min_size=1)
Sample3 = tuple[str, int, int]


@dataclass(frozen=True)
class Body:
    number: int
    group: int
    content: bytes
    samples: list[Sample3]


@dataclass
class Reader:
    """A reader of the log with what it has seen, as the lake has: `kept` is what its last commit holds."""

    log: list[tuple[BatchHeader, bytes]]
    position: int = 0
    seen: set[int] = field(default_factory=set)
    found: list[Sample3] = field(default_factory=list)
    labels: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.readers = SourceReaders(self.assign)

    def assign(self, _tenant: object, _collector: CollectorId, labels: Sequence[bytes]) -> npt.NDArray[np.int64]:
        before = len(self.labels)
        self.labels += labels
        return np.arange(before, len(self.labels))

    def restart(self) -> None:
        start = self.readers.replay_from(self.position)
        self.labels = []
        self.readers = SourceReaders(self.assign)
        for offset in range(start, self.position):
            self.readers.replay(*self.log[offset], offset)

    def read(self) -> None:
        for offset in range(self.position, len(self.log)):
            header, content = self.log[offset]
            assert header.sequence is not None
            if header.resync or header.sequence.number in self.seen:
                self.readers.replay(header, content, offset)
                continue
            self.seen.add(header.sequence.number)
            for rows in self.readers.read(header, content, offset):
                names = [dict(parse_canonical_labels(self.labels[one]))["__name__"] for one in rows.series.tolist()]
                values = rows.values.view(np.uint64).tolist()
                self.found += zip(names, rows.timestamps_ms.tolist(), values, strict=True)
        self.position = len(self.log)


class OnTheWay(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.target = Target(keyframe_every=3)
        self.spool: list[Body] = []
        self.group = 1
        self.next = 0  # index of the push to send
        self.gateways = [dict[int, GroupGuard](), dict[int, GroupGuard]()]
        self.log: list[tuple[BatchHeader, bytes]] = []
        self.hanging: list[tuple[BatchHeader, bytes]] = []
        self.reader = Reader(self.log)
        self.acknowledged: set[int] = set()

    @rule(values=PAGES, is_new=st.booleans())
    def scrape(self, values: dict[bytes, float], is_new: bool) -> None:
        if is_new and len(self.spool) % 3 == 2:
            self.group += 1
        tick, samples = self.target.scrape(values)
        blocks = self.target.encoder.encode(tick, self.group)
        if blocks:
            number = len(self.spool) + 1
            content = join_blocks(self.group, blocks)
            self.spool.append(Body(number, self.group, content, sorted(map(_named, samples))))

    @rule(which=st.integers(0, 1), fate=st.sampled_from(["ok", "answer lost", "hangs", "hangs", "lost"]))
    def push(self, which: int, fate: str) -> None:
        """The next push, and what it takes: after a 409 the roots, each with the same fate as the push."""
        if self.next >= len(self.spool):
            return
        body = self.spool[self.next]
        header = replace(HEADER, sequence=Push(7, body.number))
        if self._append(which, header, body, body.content, fate) == 409:
            reader = GroupReader(lambda entries: np.zeros(len(entries), np.int64))
            for earlier in self.spool[: self.next]:
                if earlier.group == body.group:
                    reader.read(earlier.content, samples=False)
            resync = replace(header, sequence=Push(7, max(1, body.number - 1), 500_000), resync=True)
            for roots in reader.roots():
                if self._append(which, resync, body, roots, fate) != 200:
                    return
            if self._append(which, header, body, body.content, "ok") == 200:
                self._acknowledge(body)
        elif fate == "ok":
            self._acknowledge(body)

    def _append(self, which: int, header: BatchHeader, body: Body, content: bytes, fate: str) -> int:
        guards = self.gateways[which]
        guard = guards.setdefault(body.group, GroupGuard())
        opened = open_body(content, FrameLimits())
        try:
            guard.check(opened)
        except UnknownState:
            return 409
        if fate in {"hangs", "lost"}:  # the outcome is unknown: the gateway forgets the group
            self.hanging += [(header, content)] if fate == "hangs" else []
            del guards[body.group]
            return 503
        self.log.append((header, content))
        guard.apply(opened)
        return 200 if fate == "ok" else 0

    def _acknowledge(self, body: Body) -> None:
        self.acknowledged.add(body.number)
        self.next += 1

    @rule(
        pages=st.lists(PAGES, min_size=1, max_size=4),
        which=st.integers(0, 1),
        fate=st.sampled_from(["ok", "answer lost", "hangs"]),
    )
    def go_on(self, pages: list[dict[bytes, float]], which: int, fate: str) -> None:
        """A while in which all is well but one push: without it nothing would come far."""
        for page in pages:
            self.scrape(page, is_new=False)
        self.push(which, fate)
        while self.next < len(self.spool):
            self.push(which, "ok")

    @rule(which=st.integers(0, 9))
    def land_late(self, which: int) -> None:
        if self.hanging:
            self.log.append(self.hanging.pop(which % len(self.hanging)))

    @rule(which=st.integers(0, 1))
    def gateway_forgets(self, which: int) -> None:
        self.gateways[which].clear()

    @rule(back=st.integers(0, 4))
    def sender_restarts(self, back: int) -> None:
        """It pushes again what it had no receipt on disk for."""
        self.next = max(0, self.next - back)

    @rule()
    def read(self) -> None:
        self.reader.read()

    @rule()
    def reader_restarts(self) -> None:
        self.reader.restart()

    @invariant()
    def what_was_acknowledged_is_read_once(self) -> None:
        if not hasattr(self, "reader") or self.reader.position < len(self.log):
            return
        assert self.acknowledged <= self.reader.seen
        expected = [sample for body in self.spool if body.number in self.reader.seen for sample in body.samples]
        assert sorted(self.reader.found) == sorted(expected)

    def teardown(self) -> None:
        if hasattr(self, "reader"):
            self.reader.read()
            self.what_was_acknowledged_is_read_once()


def _named(sample: Sample) -> Sample3:
    one, time, bits = sample
    return one.split(b"\xff")[1].decode(), time, bits


def test_a_root_that_hung_and_landed_late_leaves_what_follows_readable() -> None:
    """Found by thought, and now and then by the machine above."""
    way = OnTheWay()
    way.begin()
    way.scrape({NAMES[0]: 1.0}, is_new=False)
    way.push(0, "hangs")
    way.push(0, "ok")
    way.scrape({NAMES[0]: 1.0, NAMES[1]: 2.0}, is_new=False)
    way.push(0, "ok")
    way.land_late(0)
    way.scrape({NAMES[0]: 2.0, NAMES[1]: 2.0}, is_new=False)
    way.push(0, "ok")
    assert (len(way.log), way.next) == (4, 3)
    way.teardown()


TestOnTheWay = pytest.mark.deep(OnTheWay.TestCase)
TestOnTheWay.settings = settings(max_examples=few_of(50), stateful_step_count=30, deadline=None)
