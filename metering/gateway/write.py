"""`POST /api/v1/write`: remote write 1.0 and 2.0, whole or in part, into the log.

Source: prometheus/docs, specs/prw/remote_write_spec_2_0.md. What is decided, in this order: whose turn it is, the
protocol, the size, the rate, the content; then the append; then, and only then, 204.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from aiohttp import hdrs, web

from collector.wire.errors import BodyTooLarge
from collector.wire.headers import (
    EXEMPLARS_WRITTEN,
    HISTOGRAMS_WRITTEN,
    SAMPLES_WRITTEN,
    PushHeaders,
    parse_push_headers,
)
from collector.wire.model import Decoded
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import InvalidInput, Refuse, Retry, SlowDown
from kernel.identity import Identity
from kernel.log import LogUnavailable, LogWriter, Record, RecordTooLarge
from kernel.logs import logger
from kernel.window import DAY_MS
from metering.gateway.admission import Admission, Moment, admit
from metering.gateway.body import BodyTooSlow, Unsupported, negotiate, read_push
from metering.gateway.buckets import retry_after
from metering.gateway.guard import IDENTITY
from metering.gateway.metrics import GatewayMetrics, Outcome
from metering.gateway.records import make_records
from metering.gateway.settings import GatewaySettings
from metering.gateway.tenants import Tenants, TenantState
from metering.record import BatchHeader, Lane, SampleBatch
from metering.record import Sequence as PushSequence

# What decoding may cost before it is charged: several times what it costs in any honest push. A body of nothing but
# fields that nobody reads takes seconds and holds no sample, so it would pass every limit on samples.
_USUAL_SECONDS, _USUAL_SECONDS_PER_SAMPLE = 0.005, 0.0001
SAMPLES_PER_DAY_FILE = 10_000
_EXCESS_FACTOR = 4  # a second above that costs four seconds' samples: a quarter of one core for who does it always
_log = logger("gateway")


class Busy(SlowDown):
    """No turn came in time: the gateway, or this tenant's share of it, is full."""


class PartlyRefused(Refuse):
    """Some of the push was not written; `written` samples were."""

    def __init__(self, message: str, written: int) -> None:
        super().__init__(message)
        self.written = written


@dataclass(frozen=True, slots=True)
class Prepared:
    """A push that may be appended."""

    records: Sequence[Record]
    admission: Admission


def cost_of(batch: SampleBatch) -> int:
    """What a batch takes from its tenant's bucket: its samples, and for each further day as much as a file costs.

    The lake writes a file for each day, so one sample on each of 400 days is no small push.
    """
    days = len(np.unique(batch.timestamps_ms // DAY_MS))
    return len(batch) + SAMPLES_PER_DAY_FILE * max(0, days - 1)


class _Timed:
    """Runs the work of a push in its thread, and knows afterwards what it cost, also when it failed."""

    def __init__(self, work: Callable[[], Prepared]) -> None:
        self._work = work
        self.seconds = 0.0  # of the processor, so that waiting for other threads is not counted
        self.samples = 0

    def run(self) -> Prepared:
        started = time.thread_time()
        try:
            prepared = self._work()
            self.samples = len(prepared.admission.batch)
            return prepared
        finally:
            self.seconds = time.thread_time() - started

    @property
    def excess_seconds(self) -> float:
        """What to charge beyond the samples."""
        return _EXCESS_FACTOR * max(0.0, self.seconds - _USUAL_SECONDS - self.samples * _USUAL_SECONDS_PER_SAMPLE)


class WriteEndpoint:
    """Handles pushes. One for the process."""

    def __init__(
        self, settings: GatewaySettings, writer: LogWriter, tenants: Tenants, clock: Clock, metrics: GatewayMetrics
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._tenants = tenants
        self._clock = clock
        self._metrics = metrics
        self._pushes = asyncio.Semaphore(settings.concurrent_pushes)
        self._decodes = asyncio.Semaphore(settings.concurrent_decodes)

    async def post(self, request: web.Request) -> web.Response:
        """Answer one push."""
        identity = request[IDENTITY]
        with self._metrics.in_flight.track_inprogress():
            try:
                written = await self._write(request, identity)
            except (Refuse, Retry) as error:
                return self._refusal(error, identity)
        self._metrics.pushes.labels(Outcome.WRITTEN).inc()
        return web.Response(status=204, headers=_written(written))

    async def _write(self, request: web.Request, identity: Identity) -> int:
        """The number of samples written. Raises what `_ANSWERS` lists."""
        push = parse_push_headers(request.headers.items())
        protocol = negotiate(request)
        state = self._tenants.state(identity.tenant, self._clock.monotonic())
        if wait := state.bucket.wait_seconds(1, self._clock.monotonic()):
            raise self._over_rate(wait)  # before any work is done for it
        async with self._turn(state.turns), self._turn(self._pushes):
            body = await read_push(request, self._settings.body)
            self._metrics.received.inc(len(body))
            decode = protocol.decoder(self._settings.body.for_decoding(), state.labels)
            timed = _Timed(lambda: self._prepare(body, decode, state, identity, push))
            try:
                async with self._turn(state.decodes), self._turn(self._decodes):
                    prepared = await asyncio.to_thread(timed.run)
                samples = len(prepared.admission.batch)
                await self._append(prepared, state, push, cost_of(prepared.admission.batch))
            finally:  # after the append: a push does not fail by its own cost, or it would fail each time it comes
                charge = timed.excess_seconds * self._settings.tenant.samples_per_second
                state.bucket.charge(charge, self._clock.monotonic())
        return self._account(prepared.admission, push, samples)

    def _prepare(
        self,
        body: bytes,
        decode: Callable[[bytes], Decoded],
        state: TenantState,
        identity: Identity,
        push: PushHeaders | None,
    ) -> Prepared:
        """Decode, check and encode. In a thread."""
        moment = Moment(self._clock.now_ms(), self._clock.monotonic())
        decoded = decode(body)
        admission = admit(decoded, state, moment, whole=push is not None)
        if push is not None and admission.refused_total:
            self._count_refused(admission)
            raise PartlyRefused(f"nothing was written: {_reasons(admission)}", 0)
        if push is None and not len(admission.batch):
            return Prepared((), admission)
        header = _header(identity, push, moment.now_ms, body)
        return Prepared(make_records(header, admission.batch, self._writer.max_record_bytes), admission)

    async def _append(self, prepared: Prepared, state: TenantState, push: PushHeaders | None, cost: int) -> None:
        """Append within the rate limit. Raises SlowDown, LogUnavailable, RecordTooLarge."""
        if wait := state.bucket.take(cost, self._clock.monotonic()):
            raise self._over_rate(wait)
        if not prepared.records:
            return
        try:
            async with asyncio.timeout(self._settings.append_seconds):
                crash_point("gateway.checked")
                with self._metrics.append_seconds.time():
                    await self._writer.append(_lane(push).topic, prepared.records)
                crash_point("gateway.appended")
        except TimeoutError:
            state.bucket.give_back(cost)
            raise LogUnavailable(f"no answer within {self._settings.append_seconds:g} seconds") from None
        except (Retry, RecordTooLarge):
            state.bucket.give_back(cost)
            raise
        except Refuse as error:  # a topic that is not there is our fault: the sender must keep the push
            state.bucket.give_back(cost)
            raise LogUnavailable(f"the log refuses: {error}") from error

    def _account(self, admission: Admission, push: PushHeaders | None, samples: int) -> int:
        self._metrics.samples.labels(_lane(push)).inc(samples)
        self._metrics.claims.inc(admission.claims)
        self._count_refused(admission)
        if admission.refused_total:
            raise PartlyRefused(f"{samples} samples were written, others not: {_reasons(admission)}", samples)
        return samples

    def _count_refused(self, admission: Admission) -> None:
        for reason, count in admission.refused.items():
            self._metrics.refused.labels(reason).inc(count)

    def _over_rate(self, wait_seconds: float) -> SlowDown:
        rate = self._settings.tenant.samples_per_second
        return SlowDown(f"over the limit of {rate:g} samples a second", wait_seconds)

    @asynccontextmanager
    async def _turn(self, turns: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.waiting_seconds):
                await turns.acquire()
        except TimeoutError:
            raise Busy("too many pushes at once: try again", 2.0) from None
        try:
            yield
        finally:
            turns.release()

    def _refusal(self, error: Refuse | Retry, identity: Identity) -> web.Response:
        outcome, status = _answer(error)
        self._metrics.pushes.labels(outcome).inc()
        written = error.written if isinstance(error, PartlyRefused) else 0
        _log.info("push_refused", who=identity.who, outcome=outcome.value, status=status, reason=str(error))
        headers = _written(written)
        if isinstance(error, Retry):
            wait = error.retry_after_seconds if isinstance(error, SlowDown) else 1.0
            headers[hdrs.RETRY_AFTER] = retry_after(wait)
        response = web.Response(status=status, text=f"{str(error)[:2000]}\n", headers=headers)
        if isinstance(error, BodyTooLarge | BodyTooSlow):
            response.force_close()  # the rest of the body is not waited for
        return response


def _answer(error: Refuse | Retry) -> tuple[Outcome, int]:
    """The outcome and the status of an error, the more special ones first."""
    for kind, outcome, status in (
        (BodyTooLarge, Outcome.TOO_LARGE, 413),
        (BodyTooSlow, Outcome.TOO_SLOW, 408),
        (Unsupported, Outcome.UNSUPPORTED, 415),
        (InvalidInput, Outcome.REFUSED, 400),
        (Busy, Outcome.BUSY, 503),
        (SlowDown, Outcome.LIMITED, 429),
        (LogUnavailable, Outcome.LOG_UNAVAILABLE, 503),
        (Retry, Outcome.LOG_UNAVAILABLE, 503),
    ):
        if isinstance(error, kind):
            return outcome, status
    is_partial = isinstance(error, PartlyRefused) and error.written > 0
    return (Outcome.PARTLY if is_partial else Outcome.REFUSED), 400


def _reasons(admission: Admission) -> str:
    return ", ".join(f"{reason.value}: {count}" for reason, count in sorted(admission.refused.items()) if count)


def _written(samples: int) -> dict[str, str]:
    return {SAMPLES_WRITTEN: str(samples), HISTOGRAMS_WRITTEN: "0", EXEMPLARS_WRITTEN: "0"}


def _lane(push: PushHeaders | None) -> Lane:
    return Lane(push.lane) if push else Lane.BILLING


def _header(identity: Identity, push: PushHeaders | None, received_ms: int, body: bytes) -> BatchHeader:
    return BatchHeader(
        tenant=identity.tenant,
        collector=identity.collector,
        lane=_lane(push),
        received_ms=received_ms,
        sha256=hashlib.sha256(body).hexdigest(),
        sequence=PushSequence(push.epoch, push.sequence, push.part) if push else None,
        complete_through_ms=push.complete_through_ms if push else None,
        previous=push.previous if push else None,
        resync=push.resync if push else False,
    )
