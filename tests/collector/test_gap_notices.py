"""The gateway hears of every number that will never arrive, after a restart too; and no notice stops a push."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.gap_notices import GapTeller
from collector.push.transport import Push
from collector.push.version import WireProtocol
from collector.spool.gaps import Gap, GapReason, load_told
from collector.wire.gaps import MAX_RUNS, NOTICE_PART, GapRun, parse_notice
from collector.wire.headers import PushHeaders
from tests.collector.frames import FrameStream
from tests.collector.test_frames_push import Shipped, shipping
from tests.collector.world import until


@asynccontextmanager
async def telling(shipped: Shipped) -> AsyncIterator[GapTeller]:
    teller = GapTeller(shipped.lane, shipped.parts, Backoff(0.01, 0.02, random.Random(1)))
    shipped.lane.gaps.told = lambda _: teller.wake()
    task = asyncio.create_task(teller.run())
    try:
        yield teller
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(shipped: Shipped) -> list[tuple[PushHeaders, list[GapRun]]]:
    """The notices that the gateway has in its log."""
    found = [one for one in shipped.gateway.log if one.protocol is WireProtocol.GAPS]
    return [(one.headers, list(parse_notice(one.body))) for one in found]


def lose(shipped: Shipped, first: int, last: int | None, epoch: int | None = None, samples: int | None = 5) -> None:
    epoch = shipped.lane.epoch if epoch is None else epoch
    shipped.lane.gaps.record(Gap(GapReason.QUOTA, 1, epoch, first, last, samples))


def all_is_told(shipped: Shipped) -> bool:
    return load_told(shipped.lane.folder) == shipped.lane.gaps.path.stat().st_size


async def test_gaps_are_told_once_each_with_a_receipt_that_is_kept(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        epoch = shipped.lane.epoch
        await FrameStream(1).append(shipped.lane, 1, {"a": 1})
        await shipped.lane.drained()
        lose(shipped, 2, 4)
        shipped.lane.gaps.record(Gap(GapReason.DISK, 1, samples=9))  # a scrape that never had a number
        async with telling(shipped):
            await until(lambda: all_is_told(shipped))
            lose(shipped, 9, 9)
            lose(shipped, 9, 9, samples=None)
            await until(lambda: len(told(shipped)) >= 2 and all_is_told(shipped))
        (first, runs), *more = told(shipped)
        assert (first.epoch, first.sequence, first.part) == (epoch, 2, NOTICE_PART)
        assert runs == [GapRun(2, 4, GapReason.QUOTA, 5)]
        assert {run[:2] for _, runs in more for run in runs} == {(9, 9)}
        kept = [one.name.part for one in shipped.receipts()]
        assert kept.count(NOTICE_PART) == len(told(shipped))
    async with shipping(tmp_path, shipped.gateway) as again, telling(again):
        count = len(told(again))
        lose(again, 1, 1)
        await until(lambda: all_is_told(again))
        assert len(told(again)) == count + 1
        assert told(again)[-1][0].previous == (epoch, 1), "whoever gives up the first number says what came before"


async def test_an_old_gateway_and_one_that_is_away_hold_up_no_push(tmp_path: Path) -> None:
    answers = iter(
        [
            Answer(0, "away"),
            Answer(503),
            Answer(404),
            Answer(400, "no"),
            Answer(200, "no receipt"),
            Answer(415),
        ]
    )

    def script(push: Push) -> Answer | None:
        return next(answers) if push.protocol is WireProtocol.GAPS else None

    async with shipping(tmp_path) as shipped:
        shipped.gateway.script = script
        stream = FrameStream(1)
        await stream.append(shipped.lane, 1, {"a": 1})
        await shipped.lane.drained()
        async with telling(shipped):
            lose(shipped, 7, 8)
            count = shipped.parts.metrics.gap_notices.labels("billing", "not_understood")
            await until(lambda: count._value.get() == 1)
            await stream.append(shipped.lane, 2, {"a": 2})
            await shipped.lane.drained()
        assert [row[2] for row in shipped.samples()] == [1, 2]
        assert load_told(shipped.lane.folder) == 0
        assert next(answers, None) is None


async def test_nobody_is_told_before_a_gateway_of_ours_has_spoken(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped, telling(shipped):
        lose(shipped, 3, 3)
        assert not shipped.parts.version.took_frames
        await asyncio.sleep(0)
        assert all(push.protocol is not WireProtocol.GAPS for push in shipped.gateway.tries)


async def test_many_gaps_go_in_notices_of_bounded_length_by_epoch(tmp_path: Path) -> None:
    async with shipping(tmp_path) as shipped:
        await FrameStream(1).append(shipped.lane, 1, {"a": 1})
        await shipped.lane.drained()
        for number in range(1, MAX_RUNS + 2):
            lose(shipped, 2 * number, 2 * number)
        lose(shipped, 1, None, epoch=5)
        async with telling(shipped):
            await until(lambda: all_is_told(shipped))
        assert [(headers.epoch, len(runs)) for headers, runs in told(shipped)] == [
            (shipped.lane.epoch, MAX_RUNS),
            (shipped.lane.epoch, 1),
            (5, 1),
        ]


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    from collector.spool.gaps import GapRecords

    records = GapRecords(tmp_path)
    records.record(Gap(GapReason.QUOTA, 1, 1, 2, 3))
    with records.path.open("ab") as file:
        file.write(b'{"reason": "qu')
    records.record(Gap(GapReason.DAMAGE, 1, 1, 4, 4))
    assert [gap.first for gap in records.load()] == [2, 4]
