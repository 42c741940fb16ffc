"""`POST /api/v1/write`: whose push it is and how it is answered. What a push is made of is its protocol's business.

204 for a foreign sender, 200 with a signed receipt for a collector of ours: only after the append returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from collector.wire.errors import WireError
from collector.wire.headers import PushHeaders, parse_push_headers
from kernel.errors import Refuse, Retry, truncate
from kernel.identity import Identity
from metering.gateway.answers import outcome_of, refused_response, written_headers
from metering.gateway.frames import Frames, is_frames
from metering.gateway.gaps import GapNotices, is_notice
from metering.gateway.groups import Groups
from metering.gateway.guard import IDENTITY
from metering.gateway.intake import Delivery, Intake
from metering.gateway.metrics import Outcome
from metering.gateway.notices import Notices
from metering.gateway.receipts import Receipts, push_name
from metering.gateway.refusals import RefusedPushes
from metering.gateway.remote_write import RemoteWrite
from metering.gateway.tenants import Kind, Tenants, TenantState


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept of senders from push to push."""

    tenants: Tenants
    groups: Groups
    refused: RefusedPushes | None = None


class WriteEndpoint:
    """Handles pushes. One for the process."""

    def __init__(self, intake: Intake, remembered: Remembered, receipts: Receipts, notices: Notices) -> None:
        self._intake = intake
        self._metrics = intake.metrics
        self._tenants = remembered.tenants
        self._refused = remembered.refused
        self._notices = notices
        self._receipts = receipts
        self._takes: Mapping[Kind, RemoteWrite | Frames | GapNotices] = {
            Kind.REMOTE_WRITE: RemoteWrite(intake),
            Kind.FRAMES: Frames(intake, remembered.groups),
            Kind.NOTICE: GapNotices(intake),
        }

    async def post(self, request: web.Request) -> web.Response:
        """Answer one push."""
        identity = request[IDENTITY]
        state = self._tenants.state(identity.tenant, self._intake.clock.monotonic())
        with self._metrics.in_flight.track_inprogress():
            try:
                push = parse_push_headers(request.headers.items())
                delivery = await self._take(request, identity, state, push)
            except (Refuse, Retry) as error:
                await self._intake.hold_back(error, state)
                return self._refusal(error, identity)
        self._metrics.pushes.labels(Outcome.WRITTEN).inc()
        return self._accepted(identity, push, delivery)

    async def _take(
        self, request: web.Request, identity: Identity, state: TenantState, push: PushHeaders | None
    ) -> Delivery:
        kind = _kind_of(request)
        with self._intake.expected(state, kind, request.content_length):
            if kind is Kind.REMOTE_WRITE and push is not None and push.resync:
                raise WireError.at("request headers", "a resync that is no frames", "frames, or a push of its own")
            delivery = await self._takes[kind].take(request, identity, state, push)
        state.learn(kind, delivery.rows, request.content_length)
        return delivery

    def _accepted(self, identity: Identity, push: PushHeaders | None, delivery: Delivery) -> web.Response:
        written = written_headers(delivery.samples, delivery.histograms, delivery.exemplars)
        if push is None:
            return web.Response(status=204, headers=written)
        refused = self._refused.for_answer(identity, push.refused_seen) if self._refused else ()
        return self._receipts.response(push_name(identity, push), delivery, written, refused)

    def _refusal(self, error: Refuse | Retry, identity: Identity) -> web.Response:
        outcome, status = outcome_of(error)
        self._metrics.pushes.labels(outcome).inc()
        self._notices.warn("push_refused", identity.who, outcome.value, status=status, text=truncate(str(error)))
        return refused_response(error, status)


def _kind_of(request: web.Request) -> Kind:
    if is_frames(request):
        return Kind.FRAMES
    return Kind.NOTICE if is_notice(request) else Kind.REMOTE_WRITE
