"""What all uploaders of a lane share, and the one request that each of them makes again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from collector.gate import ShippingGate
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer, Verdict
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.receipts import ReceiptJudge
from collector.push.transport import Push, Sender
from collector.push.version import VersionMemory, WireProtocol
from collector.spool.frame import Frame
from collector.spool.receipts import ReceiptStore
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("push")


class Ledger(Protocol):
    """Told of each frame that the gateway has."""

    def count(self, frames: Sequence[Frame]) -> None:
        """Count what left with these frames, each once. Blocking."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """Judges receipts and keeps them."""

    judge: ReceiptJudge
    store: ReceiptStore

    @property
    def refused_seen(self) -> int | None:
        """What each push says, so that the gateway tells the refusals after it."""
        return self.judge.refusals.seen


@dataclass(frozen=True, slots=True)
class UploaderParts:
    """What an uploader works with. Without `proofs` no frames of our own protocol are sent."""

    sender: Sender
    version: VersionMemory
    dead_letters: DeadLetters
    ledger: Ledger
    metrics: CollectorMetrics
    clock: Clock
    proofs: Proofs | None = None
    gate: ShippingGate = field(default_factory=ShippingGate)


class Attempts:
    """Sends a push once and says what follows; waits between tries."""

    def __init__(self, parts: UploaderParts, backoff: Backoff, lane: str) -> None:
        self.last_error: str | None = None
        self._parts = parts
        self._backoff = backoff
        self._lane = lane

    async def send(self, push: Push, samples: int | None = None) -> tuple[Verdict, Answer]:
        """One request. `samples`: what its receipt must say; None: it has none of its own to keep (a resync)."""
        version = self._parts.version
        while self._parts.gate.reason() is not None:
            await self._parts.gate.opened()
        answer = await self._parts.sender.send(push)
        verdict = answer.verdict(push.protocol, took_frames=version.took_frames)
        if verdict is Verdict.ACCEPTED:
            verdict, answer = await self._prove(push, answer, samples)
        self._parts.metrics.pushes.labels(self._lane, verdict.value).inc()
        if verdict is Verdict.OTHER_VERSION:
            _log.warning("protocol_refused", protocol=push.protocol.value, answer=answer.describe())
            await asyncio.to_thread(version.refused, push.protocol)
        elif verdict is not Verdict.RETRY:
            self._backoff.reset()
            self.last_error = None
            is_said = push.protocol is not WireProtocol.FRAMES or verdict is Verdict.ACCEPTED
            if push.protocol is not WireProtocol.RW1 and is_said:
                await asyncio.to_thread(version.accepted, push.protocol)
        return verdict, answer

    async def _prove(self, push: Push, answer: Answer, samples: int | None) -> tuple[Verdict, Answer]:
        """Of frames only a receipt counts; of remote write it is kept if there is one, and the status believed."""
        proofs, is_frames = self._parts.proofs, push.protocol is WireProtocol.FRAMES
        if proofs is None or not (is_frames or answer.text.startswith("{")):
            return (Verdict.OTHER_VERSION if is_frames else Verdict.ACCEPTED), answer
        found = await proofs.judge.judge(push, answer, samples)
        if isinstance(found, str):
            _log.warning("receipt_missing", lane=self._lane, sequence=push.headers.sequence, problem=found)
            if not is_frames:
                return Verdict.ACCEPTED, answer
            never = not self._parts.version.took_frames and not answer.text.startswith("{")
            return (Verdict.OTHER_VERSION if never else Verdict.RETRY), Answer(answer.status, found, answer.headers)
        if not push.headers.resync:
            await asyncio.to_thread(proofs.store.append, found)
            crash_point("push.receipt_kept")
        return Verdict.ACCEPTED, answer

    async def wait(self, answer: Answer) -> None:
        """Before the next try: backoff with jitter, and not before the gateway said."""
        if self.last_error is None:
            _log.warning("push_failed", lane=self._lane, answer=answer.describe())
        self.last_error = answer.describe()
        await self._parts.clock.sleep(
            self._backoff.next_seconds(answer.retry_after_seconds(self._parts.clock.now()))
        )
