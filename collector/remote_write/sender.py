"""Sends what waits in one receiver's spool, in order, one request at a time."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from collector.client.session import HttpClient
from collector.gate import ShippingGate
from collector.left_sums import SentFrame
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.version import VersionMemory, WireProtocol
from collector.remote_write.answers import Counts, Outcome, judge, written
from collector.remote_write.meta import counts_of, families_of
from collector.remote_write.request import as_version_1, join_requests
from collector.remote_write.settings import ProtobufMessage, RemoteWriteSettings
from collector.spool.frame import Frame, PayloadKind
from collector.spool.lane import LaneSpool
from collector.wire.headers import CONTENT_TYPE_RW1, CONTENT_TYPE_RW2, VERSION_HEADER, VERSION_RW1, VERSION_RW2
from collector.wire.snappy import compress, decompress
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.logs import logger

_log = logger("remote_write")
MAX_ANSWER_BYTES = 64 * 1024
_FULL_SHARE = 2  # a request of half of max_samples_per_send goes as it is: joining costs more than it saves


class SentLedger(Protocol):
    """Told of each request that was sent and answered for good."""

    def count_sent(self, receiver: str, frames: Sequence[SentFrame]) -> None:
        """Count what left with these frames, each once, whatever became of it there. Blocking."""


@dataclass(frozen=True, slots=True)
class SenderParts:
    """What a sender works with."""

    spool: LaneSpool
    version: VersionMemory
    metrics: CollectorMetrics
    clock: Clock
    gate: ShippingGate
    ledger: SentLedger | None = None


class ReceiverSender:
    """One receiver's way out. `last_error`: why nothing goes on; None while it does."""

    def __init__(self, settings: RemoteWriteSettings, parts: SenderParts) -> None:
        queue = settings.queue_config
        self.last_error: str | None = None
        self._settings = settings
        self._parts = parts
        self._label = settings.folder_name
        self._client = HttpClient(settings, limit=2)
        self._backoff = Backoff(queue.min_backoff, queue.max_backoff, random.Random())
        self._next: asyncio.Task[Frame] | None = None

    async def run(self) -> None:
        """Until cancelled. A request that was cut off is sent again after the next start."""
        try:
            while True:
                await self._deliver(await self._collect())
        finally:
            if self._next is not None:
                self._next.cancel()
            await self._client.close()

    # -- what goes together ----------------------------------------------------------------------------------

    async def _collect(self) -> list[Frame]:
        """One large frame, or small ones until they are enough or the deadline comes."""
        queue = self._settings.queue_config
        frames = [await self._take()]
        total = frames[0].samples
        deadline = self._parts.clock.monotonic() + queue.batch_send_deadline
        while total < queue.max_samples_per_send // _FULL_SHARE:
            frame = await self._peek(deadline)
            if frame is None or total + frame.samples > queue.max_samples_per_send:
                break
            frames.append(await self._take())
            total += frame.samples
        return frames

    async def _take(self) -> Frame:
        if self._next is None:
            self._next = asyncio.create_task(self._parts.spool.next_frame())
        task = self._next
        frame = await asyncio.shield(task)
        self._next = None
        return frame

    async def _peek(self, deadline: float) -> Frame | None:
        if self._next is None:
            self._next = asyncio.create_task(self._parts.spool.next_frame())
        clock = self._parts.clock
        expired = asyncio.ensure_future(clock.sleep(max(0.0, deadline - clock.monotonic())))
        try:
            await asyncio.wait({self._next, expired}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            expired.cancel()
        return self._next.result() if self._next.done() else None

    # -- one request -----------------------------------------------------------------------------------------

    async def _deliver(self, frames: list[Frame]) -> None:
        counts = _counts(frames)
        attempt = 0
        while True:
            if self._is_too_old(frames):
                self._lose(counts, "too_old", None)
                break
            await self._parts.gate.opened()
            version_2 = self._speaks_version_2()
            body = await asyncio.to_thread(_body, frames, version_2)
            answer = await self._post(body, version_2=version_2, attempt=attempt)
            outcome = judge(answer, version_2=version_2, retry_on_429=self._settings.queue_config.retry_on_http_429)
            self._parts.metrics.receiver_requests.labels(self._label, outcome.value).inc()
            if outcome is Outcome.RETRY:
                attempt += 1
                await self._wait(answer)
            elif outcome is Outcome.OTHER_VERSION:
                _log.warning("remote_write_2_refused", receiver=self._label, answer=answer.describe())
                await asyncio.to_thread(self._parts.version.refused, WireProtocol.RW2)
            else:
                self._settle(outcome, counts, answer, version_2=version_2)
                await self._count(frames)
                break
        self._backoff.reset()
        self.last_error = None
        for frame in frames:
            await self._parts.spool.settle(frame)

    async def _count(self, frames: list[Frame]) -> None:
        """What was sent has left, also what the receiver did not want. Before the spool forgets it."""
        ledger = self._parts.ledger
        sent = [
            SentFrame(one.epoch, one.sequence, one.samples, families_of(one), len(one.payload)) for one in frames
        ]
        while ledger is not None:
            try:
                await asyncio.to_thread(ledger.count_sent, self._label, sent)
            except (OSError, sqlite3.Error) as error:
                await self._wait(Answer(0, f"our own disk: {error}"))
            else:
                return

    def _speaks_version_2(self) -> bool:
        if self._settings.protobuf_message is ProtobufMessage.RW1:
            return False
        return self._parts.version.choose(PayloadKind.RW2) is WireProtocol.RW2

    def _settle(self, outcome: Outcome, counts: Counts, answer: Answer, *, version_2: bool) -> None:
        """Believe what the receiver says it wrote; without a word, all of it or nothing by the status."""
        said = written(answer) if version_2 else None
        got = said if said is not None else counts if outcome is Outcome.DONE else Counts()
        for kind, number in (("samples", min(got.samples, counts.samples)), ("histograms", got.histograms),
                             ("exemplars", got.exemplars)):  # fmt: skip
            self._parts.metrics.receiver_written.labels(self._label, kind).inc(number)
        lost = counts.minus(got)
        if lost != Counts():
            self._lose(lost, "not_written" if outcome is Outcome.DONE else f"status_{answer.status}", answer)

    def _lose(self, lost: Counts, reason: str, answer: Answer | None) -> None:
        number = lost.samples + lost.histograms + lost.exemplars
        self._parts.metrics.receiver_lost.labels(self._label, reason).inc(number)
        _log.error(
            "samples_refused", receiver=self._label, reason=reason, samples=lost.samples,
            histograms=lost.histograms, exemplars=lost.exemplars, answer=answer.describe() if answer else None,
        )  # fmt: skip

    def _is_too_old(self, frames: list[Frame]) -> bool:
        limit = self._settings.queue_config.sample_age_limit
        oldest = min(frame.appended_ms for frame in frames)
        return limit > 0 and oldest > 0 and self._parts.clock.now_ms() - oldest > limit * 1000

    async def _wait(self, answer: Answer) -> None:
        if self.last_error is None:
            _log.warning("receiver_failed", receiver=self._label, answer=answer.describe())
        self.last_error = answer.describe()
        clock = self._parts.clock
        await clock.sleep(self._backoff.next_seconds(answer.retry_after_seconds(clock.now())))

    async def _post(self, body: bytes, *, version_2: bool, attempt: int) -> Answer:
        settings = self._settings
        headers = {
            **{name: value.get_secret_value() for name, value in settings.headers.items()},
            "Content-Encoding": "snappy",
            "Content-Type": CONTENT_TYPE_RW2 if version_2 else CONTENT_TYPE_RW1,
            VERSION_HEADER: VERSION_RW2 if version_2 else VERSION_RW1,
            **({"Retry-Attempt": str(attempt)} if attempt else {}),
        }
        try:
            session = await self._client.session()
            arguments = await self._client.arguments(settings.url, headers)
            async with asyncio.timeout(settings.remote_timeout):
                async with session.post(settings.url, data=body, **arguments) as response:
                    text = (await response.content.read(MAX_ANSWER_BYTES)).decode("utf-8", "replace")
                    return Answer(response.status, text, response.headers)
        except TimeoutError:
            return Answer(0, f"no answer within {settings.remote_timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, truncate(f"{type(error).__name__}: {error}"))


def _counts(frames: list[Frame]) -> Counts:
    total = Counts()
    for frame in frames:
        total = total + counts_of(frame)
    return total


def _body(frames: list[Frame], version_2: bool) -> bytes:
    if len(frames) == 1 and version_2:
        return frames[0].payload
    joined = join_requests([decompress(frame.payload, 2**31) for frame in frames])
    return compress(joined if version_2 else as_version_1(joined))
