"""The uploader of one lane: takes the oldest frame, sends it until it is settled, then the next. Never skips."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.gate import ShippingGate
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer, Verdict
from collector.push.backoff import Backoff
from collector.push.bisect import Plan, PlanFile
from collector.push.dead_letters import DeadLetters
from collector.push.transport import Push, Sender
from collector.push.version import VersionMemory
from collector.spool.frame import Frame
from collector.spool.lane import LaneSpool
from collector.wire.encode_rw1 import encode_rw1
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.headers import PushHeaders
from collector.wire.model import DecodeLimits
from collector.wire.rw2 import decode_request
from collector.wire.series import WireSeries, series_of
from collector.wire.snappy import compress, decompress
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("push")
_OWN = DecodeLimits(2**31, 2**31, 2**31, 2**31, 2**31)  # our own bodies, from our own disk


class Ledger(Protocol):
    """Told of each frame that the gateway has."""

    def count(self, frames: Sequence[Frame]) -> None:
        """Count what left with these frames, each once. Blocking."""


@dataclass(frozen=True, slots=True)
class UploaderParts:
    """What an uploader works with."""

    sender: Sender
    version: VersionMemory
    dead_letters: DeadLetters
    ledger: Ledger
    metrics: CollectorMetrics
    clock: Clock
    gate: ShippingGate = field(default_factory=ShippingGate)


class Uploader:
    """One ordered stream."""

    def __init__(self, lane: LaneSpool, parts: UploaderParts, backoff: Backoff) -> None:
        self.last_error: str | None = None
        self._lane = lane
        self._parts = parts
        self._backoff = backoff
        self._plans = PlanFile(lane.folder / "bisect.json")
        self._label = lane.options.lane.value

    async def run(self) -> None:
        """Send for ever. Cancel it at any time: what was not acknowledged is sent again."""
        while True:
            await self._push_or_wait(await self._lane.next_frame())

    async def _push_or_wait(self, frame: Frame) -> None:
        """`push`, again after a fault of our own disk. What is repeated then is known to the lake by its number."""
        while True:
            try:
                return await self.push(frame)
            except (OSError, sqlite3.Error) as error:
                await self._wait(Answer(0, f"our own disk: {error}"))

    async def push(self, frame: Frame) -> None:
        """Send one frame until it is settled: accepted, or its bad rows put aside."""
        plan = await asyncio.to_thread(self._plans.load, frame)
        if plan is None:
            plan = await self._push_whole(frame)
        if plan is not None:
            await self._push_parts(frame, plan)
        crash_point("push.answered")
        await asyncio.to_thread(self._parts.ledger.count, (frame,))
        crash_point("push.counted")
        await self._lane.settle(frame)
        await asyncio.to_thread(self._plans.remove)
        self._count(frame)

    async def _push_whole(self, frame: Frame) -> Plan | None:
        """None: it is with the gateway. Else the plan for its parts, already on disk."""
        while True:
            version_2 = self._parts.version.version_2
            body = frame.payload if version_2 else await asyncio.to_thread(_as_version_1, frame)
            verdict, answer = await self._try(Push(self._headers(frame, 0), body, version_2))
            if verdict is Verdict.ACCEPTED:
                return None
            if verdict in (Verdict.REJECTED, Verdict.TOO_LARGE):
                series = await asyncio.to_thread(_decode, frame)
                plan = Plan.begin(frame, len(series))
                _log.warning("push_bisected", lane=self._label, sequence=frame.sequence, answer=answer.describe())
                await asyncio.to_thread(self._plans.save, plan)
                crash_point("push.bisecting")
                return plan
            if verdict is Verdict.RETRY:
                await self._wait(answer)

    async def _push_parts(self, frame: Frame, plan: Plan) -> None:
        series = await asyncio.to_thread(_decode, frame)
        while plan.ranges:
            start, stop = plan.current
            rows = series[start:stop]
            version_2 = self._parts.version.version_2
            encode = encode_rw2 if version_2 else encode_rw1
            body = await asyncio.to_thread(lambda: compress(encode(rows)))  # noqa: B023 - awaited in this turn
            headers = self._headers(frame, plan.part, last=len(plan.ranges) == 1)
            verdict, answer = await self._try(Push(headers, body, version_2))
            if verdict is Verdict.ACCEPTED:
                crash_point("push.part_answered")
                plan = plan.settled()
            elif verdict in (Verdict.REJECTED, Verdict.TOO_LARGE) and not plan.is_smallest:
                plan = plan.split()
            elif verdict is Verdict.REJECTED:
                await self._put_aside(frame, plan, rows, answer)
                plan = plan.settled()
            else:
                if verdict is not Verdict.OTHER_VERSION:
                    await self._wait(answer)
                continue
            await asyncio.to_thread(self._plans.save, plan)
            crash_point("push.part_saved")

    async def _put_aside(self, frame: Frame, plan: Plan, rows: Sequence[WireSeries], answer: Answer) -> None:
        await asyncio.to_thread(self._parts.dead_letters.append, frame, plan.part, rows, answer.text)
        samples = sum(len(one.samples) for one in rows)
        self._parts.metrics.dead_letters.labels(self._label).inc(samples)
        _log.error(
            "samples_rejected", lane=self._label, sequence=frame.sequence, samples=samples, answer=answer.text
        )

    async def _try(self, push: Push) -> tuple[Verdict, Answer]:
        while self._parts.gate.reason() is not None:
            await self._parts.gate.opened()
        answer = await self._parts.sender.send(push)
        verdict = answer.verdict(version_2=push.version_2)
        self._parts.metrics.pushes.labels(self._label, verdict.value).inc()
        if verdict is Verdict.OTHER_VERSION:
            _log.warning("remote_write_2_refused", answer=answer.describe())
            await asyncio.to_thread(self._parts.version.refused)
        elif verdict is not Verdict.RETRY:
            self._backoff.reset()
            self.last_error = None
            if push.version_2:
                await asyncio.to_thread(self._parts.version.accepted)
        return verdict, answer

    async def _wait(self, answer: Answer) -> None:
        if self.last_error is None:
            _log.warning("push_failed", lane=self._label, answer=answer.describe())
        self.last_error = answer.describe()
        await self._parts.clock.sleep(
            self._backoff.next_seconds(answer.retry_after_seconds(self._parts.clock.now()))
        )

    def _headers(self, frame: Frame, part: int, *, last: bool = True) -> PushHeaders:
        # The promise "complete through" holds once the last part has arrived, not before.
        through = frame.complete_through_ms if last else None
        return PushHeaders(frame.epoch, frame.sequence, frame.lane, part, through)

    def _count(self, frame: Frame) -> None:
        metrics, label = self._parts.metrics, self._label
        metrics.pushed_samples.labels(label).inc(frame.samples)
        metrics.pushed_bytes.labels(label).inc(len(frame.payload))
        metrics.acknowledged.labels(label).set(frame.sequence)
        if frame.complete_through_ms is not None:
            metrics.lag.set(max(0, self._parts.clock.now_ms() - frame.complete_through_ms) / 1000)


def _as_version_1(frame: Frame) -> bytes:
    return compress(encode_rw1(_decode(frame)))


def _decode(frame: Frame) -> list[WireSeries]:
    return series_of(decode_request(decompress(frame.payload, 2**31), _OWN))
