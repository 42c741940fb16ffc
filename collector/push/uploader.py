"""An uploader of one lane: takes the oldest frame, sends it until it is settled, then the next. Never skips.

A lane has two: one for fresh frames, one for the backlog, if an outage or a restart left one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence

from collector.push.answer import Answer, Verdict
from collector.push.backoff import Backoff
from collector.push.bisect import Plan, PlanFile
from collector.push.groups import GroupDecoder, Undecodable, frames_between
from collector.push.parts import Attempts, UploaderParts
from collector.push.rate import ByteRate
from collector.push.taken import Taken
from collector.push.transport import Push
from collector.push.version import WireProtocol
from collector.spool.frame import Frame, PayloadKind
from collector.spool.gaps import Gap, GapReason
from collector.spool.lane import LaneSpool
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.headers import PushHeaders
from collector.wire.series import WireSeries
from collector.wire.snappy import compress
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("push")
RESYNC_PART = 500_000  # parts of a resync count from here, far above those of a bisected push
PART_SAMPLES = 10_000  # of frames that are sent as remote write
_MAX_RESYNCS = 3  # in a row for one frame; then it waits like after any other failure


class Uploader:
    """One ordered stream. `rate`: for the backlog's uploader, which takes only what `part_backlog` left to it."""

    def __init__(
        self, lane: LaneSpool, parts: UploaderParts, backoff: Backoff, rate: ByteRate | None = None
    ) -> None:
        self._lane = lane
        self._parts = parts
        self._rate = rate
        self._label = lane.options.lane.value
        self._attempts = Attempts(parts, backoff, self._label)
        self._plans = PlanFile(lane.folder)
        self._decoder = GroupDecoder(self._earlier)
        self._taken = Taken(parts.metrics, self._label)
        self._resyncs = 0
        self._refused_group: tuple[int, int] | None = None  # sent as remote write, as its roots are refused

    @property
    def last_error(self) -> str | None:
        """Why the last try failed; None when it did not."""
        return self._attempts.last_error

    async def run(self) -> None:
        """Send for ever. Cancel it at any time: what was not settled is sent again."""
        while True:
            if self._rate is not None:
                frame = await self._lane.next_of_backlog()
                await self._rate.take(len(frame.payload))
                await self._push_or_wait(frame)
                continue
            frame = await self._lane.next_frame()
            await self._push_or_wait(frame)
            self._part_backlog_after(frame)

    def _part_backlog_after(self, frame: Frame) -> None:
        """An answer after a long silence: what waits behind must not hold up what is scraped from now on."""
        options, age_ms = self._lane.options, self._parts.clock.now_ms() - frame.appended_ms
        is_late = 0 < options.fresh_after * 1000 < age_ms
        if is_late and self._parts.version.took_frames and self._lane.has_fresh:
            self._lane.part_backlog()

    async def _push_or_wait(self, frame: Frame) -> None:
        """`push`, again after a fault of our own disk. What is repeated then is known to the lake by its number."""
        while True:
            try:
                return await self.push(frame)
            except (OSError, sqlite3.Error) as error:
                await self._attempts.wait(Answer(0, f"our own disk: {error}"))

    async def push(self, frame: Frame) -> None:
        """Send one frame until it is settled: accepted, or its bad rows put aside."""
        try:
            plan = await asyncio.to_thread(self._plans.load, frame)
            if plan is None:
                plan = await self._push_whole(frame)
            if plan is not None:
                await self._push_parts(frame, plan)
        except Undecodable as error:
            await self._lane.lose(frame, str(error))
            return
        crash_point("push.answered")
        await asyncio.to_thread(self._parts.ledger.count, (frame,))
        crash_point("push.counted")
        await self._lane.settle(frame)
        await asyncio.to_thread(self._plans.remove, frame)
        self._count(frame)

    async def _push_whole(self, frame: Frame) -> Plan | None:
        """None: it is with the gateway. Else the plan for its parts, already on disk."""
        while True:
            protocol = self._protocol(frame)
            is_frames = frame.kind is PayloadKind.FRAMES
            if is_frames and (
                protocol is not WireProtocol.FRAMES or self._refused_group == (frame.epoch, frame.group)
            ):
                return await self._plan(frame, most=PART_SAMPLES)
            body = (
                await asyncio.to_thread(self._as_version_1, frame)
                if protocol is WireProtocol.RW1
                else frame.payload
            )
            push = Push(self._headers(frame, 0), body, protocol)
            verdict, answer = await self._attempts.send(push, frame.samples)
            if verdict is Verdict.ACCEPTED:
                self._resyncs = 0
                return None
            if verdict in (Verdict.REJECTED, Verdict.TOO_LARGE):
                _log.warning("push_bisected", lane=self._label, sequence=frame.sequence, answer=answer.describe())
                return await self._plan(frame)
            if verdict is Verdict.UNKNOWN_STATE and self._resyncs < _MAX_RESYNCS:
                await self._resync(frame)
            elif verdict is not Verdict.OTHER_VERSION:
                self._resyncs = 0
                await self._attempts.wait(answer)

    async def _plan(self, frame: Frame, most: int | None = None) -> Plan:
        """The plan of a frame that is sent in parts, on disk when this returns."""
        series = await asyncio.to_thread(self._decoder.series, frame)
        if most is None:
            plan = Plan.begin(frame, len(series))
        else:
            plan = Plan.cut(frame, [one.size for one in series], most)
        await asyncio.to_thread(self._plans.save, plan)
        crash_point("push.bisecting")
        return plan

    async def _resync(self, frame: Frame) -> None:
        """Send the state that the frame builds on: without samples, under a part that no push uses."""
        self._resyncs += 1
        roots = await asyncio.to_thread(self._decoder.roots_before, frame)
        _log.info("resync", lane=self._label, sequence=frame.sequence, bodies=len(roots))
        before = max(1, frame.sequence - 1)
        for part, body in enumerate(roots, RESYNC_PART):
            headers = PushHeaders(frame.epoch, before, frame.lane, part, resync=True)
            push = Push(headers, body, WireProtocol.FRAMES)
            while True:
                verdict, answer = await self._attempts.send(push)
                if verdict is not Verdict.RETRY:
                    break
                await self._attempts.wait(answer)
            if verdict in (Verdict.REJECTED, Verdict.TOO_LARGE):
                # A series is in the dictionary that the gateway does not take: it will never have this state.
                _log.warning("group_refused", lane=self._label, group=frame.group, answer=answer.describe())
                self._refused_group = frame.epoch, frame.group
            if verdict is not Verdict.ACCEPTED:
                return  # the frame itself is tried next, and says what is wrong

    async def _push_parts(self, frame: Frame, plan: Plan) -> None:
        series = await asyncio.to_thread(self._decoder.series, frame)
        while plan.ranges:
            start, stop = plan.current
            rows = series[start:stop]
            protocol = self._parts.version.choose(PayloadKind.RW2)
            encode = encode_rw2 if protocol is WireProtocol.RW2 else encode_rw1
            body = await asyncio.to_thread(lambda: compress(encode(rows)))  # noqa: B023 - awaited in this turn
            headers = self._headers(frame, plan.part, last=len(plan.ranges) == 1)
            samples = sum(one.size for one in rows)
            verdict, answer = await self._attempts.send(Push(headers, body, protocol), samples)
            if verdict is Verdict.ACCEPTED:
                self._taken.note(rows, answer, protocol)
                crash_point("push.part_answered")
                plan = plan.settled()
            elif verdict in (Verdict.REJECTED, Verdict.TOO_LARGE) and not plan.is_smallest:
                plan = plan.split()
            elif verdict is Verdict.REJECTED:
                await self._put_aside(frame, plan, rows, answer)
                plan = plan.settled()
            else:
                if verdict is not Verdict.OTHER_VERSION:
                    await self._attempts.wait(answer)
                continue
            await asyncio.to_thread(self._plans.save, plan)
            crash_point("push.part_saved")

    async def _put_aside(self, frame: Frame, plan: Plan, rows: Sequence[WireSeries], answer: Answer) -> None:
        await asyncio.to_thread(self._parts.dead_letters.append, frame, plan.part, rows, answer.text)
        samples = sum(one.size for one in rows)
        detail = f"part {plan.part}, see the dead letters: {answer.describe()}"
        await asyncio.to_thread(self._give_up, frame, samples, detail)
        self._parts.metrics.dead_letters.labels(self._label).inc(samples)
        _log.error(
            "samples_rejected", lane=self._label, sequence=frame.sequence, samples=samples, answer=answer.text
        )

    def _give_up(self, frame: Frame, samples: int, detail: str) -> None:
        now_ms, number = self._parts.clock.now_ms(), frame.sequence
        gap = Gap(GapReason.REFUSED, now_ms, frame.epoch, number, number, samples, detail)
        self._lane.gaps.record(gap)

    def _earlier(self, frame: Frame, after: int) -> Iterator[Frame]:
        segments = [(self._lane.folder / str(name), name) for name in self._lane.shelf.names()]
        return frames_between(segments, frame, after)

    def _protocol(self, frame: Frame) -> WireProtocol:
        return self._parts.version.choose(frame.kind)

    def _as_version_1(self, frame: Frame) -> bytes:
        return compress(encode_rw1(self._decoder.series(frame)))

    def _headers(self, frame: Frame, part: int, *, last: bool = True) -> PushHeaders:
        # The promise "complete through" holds once the last part has arrived, and all before it; not sooner.
        is_true = last and self._lane.is_all_before_settled(frame)
        previous = self._lane.epochs.before(frame.epoch) if frame.sequence == 1 else None
        proofs = self._parts.proofs
        return PushHeaders(
            frame.epoch,
            frame.sequence,
            frame.lane,
            part,
            frame.complete_through_ms if is_true else None,
            previous,
            refused_seen=None if proofs is None else proofs.refused_seen,
        )

    def _count(self, frame: Frame) -> None:
        metrics, label = self._parts.metrics, self._label
        metrics.pushed_samples.labels(label).inc(frame.samples)
        metrics.pushed_bytes.labels(label).inc(len(frame.payload))
        metrics.acknowledged.labels(label).set(frame.sequence)
        if frame.complete_through_ms is not None and self._rate is None:
            metrics.lag.set(max(0, self._parts.clock.now_ms() - frame.complete_through_ms) / 1000)
