"""Remote write 1.0 and 2.0 into log records. Source: prometheus/docs, specs/prw/remote_write_spec_2_0.md.

What is decided, in this order: the size, the content, the limits; then the append. Decoding runs in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from aiohttp import web

from collector.wire.headers import PushHeaders
from kernel.identity import Identity
from kernel.log import Record
from kernel.window import DAY_MS
from metering.gateway.admission import Admission, Moment, admit
from metering.gateway.answers import PartlyRefused
from metering.gateway.body import negotiate, read_push
from metering.gateway.foreign.pushed import Pushed
from metering.gateway.frame_rules import SAMPLES_PER_DAY_FILE
from metering.gateway.intake import Delivery, Intake, Timed
from metering.gateway.records import Batch, make_records
from metering.gateway.tenants import TenantState
from metering.record import BatchHeader, Lane
from metering.record import Sequence as PushSequence

# What decoding may cost before it is charged: several times what it costs in any honest push. A body of nothing but
# fields that nobody reads takes seconds and holds no sample, so it would pass every limit on samples.
_USUAL_SECONDS, _USUAL_SECONDS_PER_SAMPLE = 0.005, 0.0001


@dataclass(frozen=True, slots=True)
class Prepared:
    """A push that may be appended."""

    records: Sequence[Record]
    admission: Admission
    received_ms: int
    sha256: str


def cost_of(batch: Batch) -> int:
    """What a batch takes from its tenant's bucket: its samples, and for each further day as much as a file costs.

    The lake writes a file for each day, so one sample on each of 400 days is no small push.
    """
    times = batch.timestamps_ms
    if not len(times) or int(times.min()) // DAY_MS == int(times.max()) // DAY_MS:
        return batch.rows
    return batch.rows + SAMPLES_PER_DAY_FILE * (len(np.unique(times // DAY_MS)) - 1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A push on its way in: how its body is read, and decoded by who holds the tenant's lock."""

    read: Callable[[], Awaitable[bytes]]
    decode: Callable[[bytes], Pushed]
    identity: Identity
    push: PushHeaders | None = None


class RemoteWrite:
    """Takes pushes of Prometheus' protocols."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def take(
        self, request: web.Request, identity: Identity, state: TenantState, push: PushHeaders | None
    ) -> Delivery:
        """Read, check and append one push. Raises what `answers` lists; PartlyRefused when some was not written."""
        protocol, settings = negotiate(request), self._intake.settings.body

        def decode(body: bytes) -> Pushed:
            return protocol.decode(body, settings.for_decoding(), state)

        return await self.deliver(Arrival(lambda: read_push(request, settings), decode, identity, push), state)

    async def deliver(self, arrival: Arrival, state: TenantState) -> Delivery:
        """The same for a push of any protocol whose content is samples."""
        intake, push = self._intake, arrival.push
        async with intake.turn(state):
            body = await arrival.read()
            intake.metrics.received.inc(len(body))
            timed = Timed(lambda: self._prepare(body, arrival, state))
            usual = _USUAL_SECONDS
            try:
                async with intake.decode_turn(state):
                    prepared = await intake.decode(timed.run)
                batch = prepared.admission.batch
                usual += batch.rows * _USUAL_SECONDS_PER_SAMPLE
                positions = await intake.append(lane_of(push).topic, prepared.records, state, cost_of(batch))
            finally:  # after the append: a push does not fail by its own cost, or it would fail each time it comes
                intake.charge(state, timed.seconds - usual)
        self._account(prepared.admission, push)
        counts = len(batch.histograms), len(batch.exemplars)
        return Delivery(prepared.sha256, len(batch), prepared.received_ms, positions, *counts)

    def _prepare(self, body: bytes, arrival: Arrival, state: TenantState) -> Prepared:
        """Decode, check and encode. In a thread."""
        clock = self._intake.clock
        moment = Moment(clock.now_ms(), clock.monotonic())
        with state.lock:
            try:
                admission = admit(arrival.decode(body), state, moment, whole=arrival.push is not None)
                return self._admitted(admission, body, arrival, moment.now_ms)
            finally:
                state.trim()

    def _admitted(self, admission: Admission, body: bytes, arrival: Arrival, received_ms: int) -> Prepared:
        push = arrival.push
        if push is not None and admission.refused_total:
            self._count_refused(admission)
            raise PartlyRefused(f"nothing was written: {reasons_of(admission)}", 0)
        digest = hashlib.sha256(body).hexdigest()
        if push is None and admission.batch.is_empty:
            return Prepared((), admission, received_ms, digest)
        header = batch_header(arrival.identity, push, received_ms, digest)
        records = make_records(header, admission.batch, self._intake.max_record_bytes)
        return Prepared(records, admission, received_ms, digest)

    def _account(self, admission: Admission, push: PushHeaders | None) -> None:
        metrics, batch = self._intake.metrics, admission.batch
        samples, histograms = len(batch), len(batch.histograms)
        metrics.samples.labels(lane_of(push)).inc(samples + histograms)
        metrics.claims.inc(admission.claims)
        self._count_refused(admission)
        if admission.refused_total:
            message = f"{samples + histograms} samples were written, others not: {reasons_of(admission)}"
            raise PartlyRefused(message, samples, histograms, len(batch.exemplars), admission.refused_total)

    def _count_refused(self, admission: Admission) -> None:
        for reason, count in admission.refused.items():
            self._intake.metrics.refused.labels(reason).inc(count)


def reasons_of(admission: Admission) -> str:
    """Why rows were refused, and how many."""
    counts = [f"{reason.value}: {count}" for reason, count in sorted(admission.refused.items()) if count]
    return ", ".join(counts) + (f" ({admission.fault})" if admission.fault else "")


def lane_of(push: PushHeaders | None) -> Lane:
    """The lane that a push says; a foreign one is billing."""
    return Lane(push.lane) if push else Lane.BILLING


def batch_header(identity: Identity, push: PushHeaders | None, received_ms: int, sha256: str) -> BatchHeader:
    """Who and which, for the records of a push."""
    return BatchHeader(
        tenant=identity.tenant,
        collector=identity.collector,
        lane=lane_of(push),
        received_ms=received_ms,
        sha256=sha256,
        sequence=PushSequence(push.epoch, push.sequence, push.part) if push else None,
        complete_through_ms=push.complete_through_ms if push else None,
        previous=push.previous if push else None,
        resync=push.resync if push else False,
    )
