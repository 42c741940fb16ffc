"""Frames on their way: what a receipt proves is delivered, all else is sent again; lost state is sent anew."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.errors import IdentityRefused
from collector.left import LeftLedger
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.parts import UploaderParts
from collector.push.rate import ByteRate
from collector.push.transport import Push
from collector.push.uploader import RESYNC_PART, Uploader
from collector.push.version import VersionMemory, WireProtocol
from collector.spool.gaps import GapReason
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.spool.segment import list_segments
from collector.wire.headers import PushLane
from collector.wire.receipt import PushName, Receipt, Refusal, Signed, verify
from kernel.clock import SystemClock
from kernel.identity import Identity
from tests.collector.frames import FrameGateway, FrameStream, make_gateway, unsigned
from tests.collector.world import ACME, COLLECTOR, until

OPTIONS = LaneOptions(PushLane.BILLING, 10**8, 10**6, keep=1000, keep_bytes=10**8)


@dataclass
class Shipped:
    """A lane, its gateway and its uploaders."""

    lane: LaneSpool
    gateway: FrameGateway
    parts: UploaderParts
    folder: Path

    def samples(self) -> list[tuple[str, int, float]]:
        """Rows that are no stale marker, in the order of the log."""
        return [row for row in self.gateway.rows() if not math.isnan(row[2])]

    def receipts(self) -> list[Receipt]:
        assert self.parts.proofs is not None
        found = list(self.parts.proofs.store.read())
        keys = {self.gateway.signer.key: self.gateway.signer.public}
        for one in found:
            assert isinstance(one, Signed)
            verify(one, keys)
        return [one.content for one in found if isinstance(one, Signed)]


@asynccontextmanager
async def shipping(
    folder: Path, gateway: FrameGateway | None = None, options: LaneOptions = OPTIONS, rate: float = 0
) -> AsyncIterator[Shipped]:
    clock = SystemClock()
    gateway = gateway or make_gateway(folder / "ca", clock)
    lane = LaneSpool(folder / options.lane.value, options, clock)
    lane.open()
    ledger = LeftLedger(folder / "left.sqlite", clock, 100)
    ledger.open()
    version = VersionMemory(folder / "version.json", clock)
    parts = UploaderParts(
        gateway,
        version,
        DeadLetters(folder / "dead.jsonl", 10**6),
        ledger,
        CollectorMetrics(),
        clock,
        gateway.proofs(folder / "identity", lane, clock),
    )
    lane.part_old_backlog(took_frames=version.took_frames)
    uploaders = [
        Uploader(lane, parts, Backoff(0.01, 0.02, random.Random(1))),
        Uploader(lane, parts, Backoff(0.01, 0.02, random.Random(1)), ByteRate(rate, clock)),
    ]
    tasks = [asyncio.create_task(one.run()) for one in uploaders]
    try:
        yield Shipped(lane, gateway, parts, folder)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lane.close()
        ledger.close()


async def test_what_is_scraped_arrives_once_in_order_with_a_receipt_for_each_push(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        one, two = FrameStream(1), FrameStream(2)
        for at in range(1, 6):
            await one.append(shipped.lane, at, {"a": at, "b": 0.5 * at}, at)
            await two.append(shipped.lane, at, {f"c{at}": 7})
        await shipped.lane.drained()
        expected = [
            row for at in range(1, 6) for row in [("a", at, float(at)), ("b", at, 0.5 * at), (f"c{at}", at, 7.0)]
        ]
        assert shipped.samples() == expected
        receipts = shipped.receipts()
        assert [receipt.name.sequence for receipt in receipts] == list(range(1, 11))
        assert {try_.protocol for try_ in shipped.gateway.tries} == {WireProtocol.FRAMES}
        through = [try_.headers.complete_through_ms for try_ in shipped.gateway.tries]
        assert [one for one in through if one is not None] == [1, 2, 3, 4, 5]


async def test_drafts_that_wait_together_are_one_push(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 10**8, linger=0.05)
    async with shipping(tmp_path, options=options) as shipped:
        streams = [FrameStream(number) for number in range(50)]
        numbers = await asyncio.gather(
            *(stream.append(shipped.lane, 9, {f"m{number}": 1.0}, 9) for number, stream in enumerate(streams))
        )
        await shipped.lane.drained()
        assert set(numbers) == {1}
        assert len(shipped.samples()) == 50
        assert [try_.headers.complete_through_ms for try_ in shipped.gateway.tries] == [9]


async def test_a_gateway_that_lost_its_state_gets_roots_and_then_the_frame(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        stream = FrameStream(1)
        for at in range(1, 9):
            if at in (3, 6):
                shipped.gateway.lose_state()
            await stream.append(shipped.lane, at, {"a": at, f"b{at // 4}": 1}, at)
            await shipped.lane.drained()
        assert [row for row in shipped.samples() if row[0] == "a"] == [("a", at, float(at)) for at in range(1, 9)]
        resyncs = [one.headers for one in shipped.gateway.log if one.headers.resync]
        assert [(one.sequence, one.part) for one in resyncs] == [(2, RESYNC_PART), (5, RESYNC_PART)]
        assert [receipt.name.sequence for receipt in shipped.receipts()] == list(range(1, 9))
        assert shipped.lane.gaps.load() == []


async def test_a_new_group_begins_with_whole_dictionaries(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 10**8, segment=500, keep=1000, keep_bytes=10**8)
    async with shipping(tmp_path, options=options) as shipped:
        stream = FrameStream(1)
        for at in range(1, 30):
            await stream.append(shipped.lane, at, {"a": at, "b": 1}, at)
            if at % 7 == 0:
                await shipped.lane.drained()
                shipped.gateway.lose_state()
        await shipped.lane.drained()
        assert [row for row in shipped.samples() if row[0] == "a"] == [("a", at, float(at)) for at in range(1, 30)]
        kept = list_segments(tmp_path / "billing" / "archive")
        assert len(kept) >= 3
        assert len(list_segments(tmp_path / "billing")) == 1


@pytest.mark.parametrize("wrong", ["no body", "signature", "another push"])
async def test_a_2xx_without_a_receipt_that_holds_is_not_delivered(tmp_path: Path, wrong: str) -> None:
    async with shipping(tmp_path) as shipped:
        stream, gateway = FrameStream(1), shipped.gateway
        await stream.append(shipped.lane, 1, {"a": 1}, 1)
        await shipped.lane.drained()

        def script(push: Push) -> Answer | None:
            if len(gateway.tries) > 4:
                return None
            if wrong == "no body":
                return Answer(204)
            if wrong == "signature":
                return unsigned(gateway.answer(push, 1))
            return gateway.answer(gateway.tries[0], 1)

        gateway.script = script
        await stream.append(shipped.lane, 2, {"a": 2}, 2)
        await shipped.lane.drained()
        assert [try_.headers.sequence for try_ in gateway.tries] == [1, 2, 2, 2, 2]
        assert [receipt.name.sequence for receipt in shipped.receipts()] == [1, 2]
        assert shipped.samples() == [("a", 1, 1.0), ("a", 2, 2.0)]


async def test_a_clock_that_makes_our_certificate_a_later_one_does_not_end_the_push(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        assert shipped.parts.proofs is not None
        judge, tries = shipped.parts.proofs.judge, shipped.gateway.tries
        who = judge._who

        def refused() -> Identity:
            if len(tries) < 3:
                raise IdentityRefused("the certificate begins tomorrow: check the clock")
            return who()

        judge._who = refused
        await FrameStream(1).append(shipped.lane, 1, {"a": 1}, 1)
        await shipped.lane.drained()
        assert [try_.headers.sequence for try_ in tries] == [1, 1, 1]
        assert shipped.samples() == [("a", 1, 1.0)]


async def test_a_415_is_remembered_and_the_samples_go_as_remote_write(tmp_path: Path) -> None:
    def script(push: Push) -> Answer | None:
        return Answer(415) if push.protocol is WireProtocol.FRAMES else None

    gateway = make_gateway(tmp_path / "ca", SystemClock())
    gateway.script = script
    for at in (1, 2):
        async with shipping(tmp_path, gateway) as shipped:
            await FrameStream(1).append(shipped.lane, at, {f"m{number}": number for number in range(12_000)}, at)
            await shipped.lane.drained()
    protocols = [try_.protocol for try_ in gateway.tries]
    assert protocols == [WireProtocol.FRAMES] + [WireProtocol.RW2] * 4
    expected = sorted((f"m{number}", at, float(number)) for at in (1, 2) for number in range(12_000))
    assert sorted(gateway.rows()) == expected
    assert [try_.headers.complete_through_ms for try_ in gateway.tries[1:]] == [None, 1, None, 2]


async def test_what_is_bad_is_put_aside_and_the_rest_of_the_frame_arrives(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        shipped.gateway.bad = {"c"}
        stream = FrameStream(1)
        await stream.append(shipped.lane, 1, dict.fromkeys("abcdefgh", 1.0), 1)
        await stream.append(shipped.lane, 2, dict.fromkeys("abdefgh", 2.0), 2)
        await shipped.lane.drained()
        assert sorted(shipped.samples()) == sorted((name, at, float(at)) for name in "abdefgh" for at in (1, 2))
        assert [letter["series"] for letter in shipped.parts.dead_letters.load()] == [
            "c",
            "c",
        ]  # its value and its end
        gaps = [(gap.reason, gap.first, gap.last, gap.samples) for gap in shipped.lane.gaps.load()]
        assert gaps == [(GapReason.REFUSED, 1, 1, 1), (GapReason.REFUSED, 2, 2, 1)]


async def test_a_refusal_that_comes_later_is_written_down_once(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        name = PushName(ACME.organization, ACME.project, COLLECTOR, "billing", shipped.lane.epoch, 1, 0)
        other = PushName(ACME.organization, ACME.project, "another", "billing", shipped.lane.epoch, 1, 0)
        shipped.gateway.refused = [Refusal(name, "poisoned", 5), Refusal(other, "not ours", 5)]
        stream = FrameStream(1)
        for at in (1, 2, 3):
            await stream.append(shipped.lane, at, {"a": at})
        await shipped.lane.drained()
        (gap,) = shipped.lane.gaps.load()
        assert (gap.reason, gap.first, gap.last) == (GapReason.REFUSED, 1, 1)
        assert "poisoned" in gap.detail
        assert {one.headers.refused_seen for one in shipped.gateway.log} == {None}, "this gateway told no offset"


async def test_after_an_outage_fresh_goes_beside_the_backlog_and_the_promise_waits(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 10**8, segment=400, fresh_after=0.2)
    async with shipping(tmp_path, options=options, rate=3000) as shipped:
        stream, gateway = FrameStream(1), shipped.gateway
        await stream.append(shipped.lane, 1, {"a": 1}, 1)
        await shipped.lane.drained()
        gateway.script = lambda _: Answer(0, "cut")
        for at in range(2, 60):
            await stream.append(shipped.lane, at, {"a": at, "b": 1}, at)
        await asyncio.sleep(0.4)
        gateway.script = None
        await until(shipped.lane.backlog.is_set)
        for at in range(60, 70):
            await stream.append(shipped.lane, at, {"a": at, "b": 1}, at)
        await shipped.lane.drained()
        order = [one.headers.sequence for one in gateway.log if not one.headers.resync]
        assert order != sorted(order), "fresh frames went ahead of the backlog"
        assert sorted(order) == list(range(1, 70))
        settled: set[int] = set()
        for one in gateway.log:
            if one.headers.complete_through_ms is not None:
                assert settled >= set(range(1, one.headers.sequence)), "a promise before its time"
            settled.add(one.headers.sequence)
        assert sorted(row for row in shipped.samples() if row[0] == "a") == [
            ("a", at, float(at)) for at in range(1, 70)
        ]


async def test_a_restart_with_an_old_backlog_does_not_hold_up_what_is_fresh(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 10**8, segment=400, fresh_after=3600)
    gateway = make_gateway(tmp_path / "ca", SystemClock())
    async with shipping(tmp_path, gateway, options) as shipped:
        stream = FrameStream(1)
        await stream.append(shipped.lane, 1, {"a": 1}, 1)
        await shipped.lane.drained()
        gateway.script = lambda _: Answer(0, "cut")
        for at in range(2, 40):
            await stream.append(shipped.lane, at, {"a": at}, at)
    first = gateway.log[0].headers.epoch
    for name in list_segments(tmp_path / "billing"):
        os.utime(tmp_path / "billing" / str(name), (0, 0))  # older than any machine is slow
    gateway.script = None
    async with shipping(tmp_path, gateway, options, rate=2000) as shipped:
        stream = FrameStream(1)
        for at in range(40, 45):
            await stream.append(shipped.lane, at, {"a": at}, at)
        await shipped.lane.drained()
        epochs = [one.headers.epoch for one in gateway.log]
        assert epochs[-1] == first, "the backlog ends last"
        second = [one.headers for one in gateway.log if one.headers.epoch != first]
        assert [one.previous for one in second] == [(first, 39), None, None, None, None]
        assert sorted(shipped.samples()) == [("a", at, float(at)) for at in range(1, 45)]


async def test_what_builds_on_a_damaged_frame_is_a_gap_and_the_next_group_is_whole(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path / "ca", SystemClock())
    gateway.script = lambda _: Answer(0, "cut")
    async with shipping(tmp_path, gateway) as shipped:
        stream = FrameStream(1)
        for at in range(1, 6):
            await stream.append(shipped.lane, at, {"a": at, **({"b": 1} if at >= 3 else {})}, at)
    (name,) = list_segments(tmp_path / "billing")
    path = tmp_path / "billing" / str(name)
    content = bytearray(path.read_bytes())
    third = content.find(b"\xf5bY\xfe", content.find(b"\xf5bY\xfe", 1) + 1)
    content[third + 40] ^= 1  # the frame in which b was born
    path.write_bytes(content)
    gateway.script = None
    async with shipping(tmp_path, gateway) as shipped:
        await FrameStream(1).append(shipped.lane, 9, {"a": 9, "b": 9}, 9)
        await shipped.lane.drained()
        assert [(gap.reason, gap.first) for gap in shipped.lane.gaps.load()] == [
            (GapReason.DAMAGE, 3),
            (GapReason.DAMAGE, 4),
            (GapReason.DAMAGE, 5),
        ]
        assert shipped.samples() == [("a", 1, 1.0), ("a", 2, 2.0), ("a", 9, 9.0), ("b", 9, 9.0)]


async def test_a_frame_that_was_given_up_while_it_was_under_way_stands_in_one_gap_record(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BULK, 10**8, drop_oldest=True)
    gateway = make_gateway(tmp_path / "ca", SystemClock())
    async with shipping(tmp_path, gateway, options) as shipped:
        stream = FrameStream(1)
        await stream.append(shipped.lane, 1, {"a": 1, "b": 1})
        await shipped.lane.drained()
        gateway.script = lambda _: Answer(0, "cut")
        await stream.append(shipped.lane, 2, {"a": 2, "b": 2})
        await until(lambda: gateway.tries[-1].headers.sequence == 2)
        (name,) = shipped.lane.shelf.names()
        shipped.lane.part_backlog()
        await FrameStream(1).append(shipped.lane, 3, {"a": 3})
        shipped.lane.shelf.drop(name, GapReason.QUOTA)
        gateway.lose_state()
        gateway.script = None  # it asks for a dictionary that is gone
        await shipped.lane.drained()
        assert [(gap.reason, gap.first, gap.last) for gap in shipped.lane.gaps.load()] == [(GapReason.QUOTA, 2, 2)]
        assert shipped.samples() == [("a", 1, 1.0), ("b", 1, 1.0), ("a", 3, 3.0)]
