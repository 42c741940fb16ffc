"""Who may speak: checked at every request, since a connection outlives a certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.identity import Identity, is_strong, peer_identity
from kernel.identity.revocation import Revocations
from metering.gateway.buckets import KeyedBuckets, retry_after
from metering.gateway.connections import Connections
from metering.gateway.metrics import Closed, GatewayMetrics
from metering.gateway.notices import Notices

ENROL_PATH = "/enrol"
RENEW_PATH = "/renew"
IDENTITY = web.RequestKey("identity", Identity)
_BURST_SECONDS = 2.0
_REASONS = {
    Closed.NO_CERTIFICATE: "a client certificate is required: enrol first",
    Closed.WEAK_CIPHER: "TLS 1.2 or newer with AES-256-GCM is required",
    Closed.EXPIRED: "the client certificate has expired, or does not begin yet: renew it, or enrol again",
    Closed.TOO_MANY: "too many connections of this project are open: keep them alive and use them again",
    Closed.REVOKED: "the client certificate was revoked: enrol again",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a certificate is held against."""

    trust_domain: str
    revocations: Revocations
    renewal_grace: timedelta = timedelta(0)  # how long after its end a certificate may still renew itself
    requests_per_second: float = math.inf  # of a tenant; more wait for their turn


@dataclass(frozen=True, slots=True)
class Watch:
    """What every part of the gateway tells its events with."""

    clock: Clock
    metrics: GatewayMetrics
    notices: Notices


class Guard:
    """Turns away weak ciphers, missing, foreign, expired and revoked certificates.

    An expired one may still ask for its successor for a while: a collector that was cut off over the end of its
    certificate comes back by itself.
    """

    def __init__(self, expected: Expected, connections: Connections, watch: Watch) -> None:
        self._trust_domain = expected.trust_domain
        self._revocations = expected.revocations
        self._renewal_grace = expected.renewal_grace
        self._clock, self._metrics, self._notices = watch.clock, watch.metrics, watch.notices
        self._connections = connections
        rate = expected.requests_per_second
        self._requests = KeyedBuckets(rate, _BURST_SECONDS * rate) if rate < math.inf else None

    def middleware(self) -> Middleware:
        """The first middleware of the application: runs before anything of a request is looked at."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not is_strong(request.transport):
                return self._turn_away(request, Closed.WEAK_CIPHER)
            if request.path == ENROL_PATH:
                return await handler(request)
            identity = self._connections.identity(request.protocol)  # a connection's never changes
            identity = identity or peer_identity(request.transport, self._trust_domain)
            if identity is None:
                return self._turn_away(request, Closed.NO_CERTIFICATE)
            # Not for renewals: the sweep would close an expired one in the middle of it.
            if request.path != RENEW_PATH and not self._connections.identified(request.protocol, identity):
                return self._turn_away(request, Closed.TOO_MANY, identity)
            try:
                reason = self._reason(identity, request.path)
            except Retry as error:
                self._metrics.turned_away.labels(Closed.STALE_REVOCATIONS).inc()
                return web.Response(status=503, text=f"{error}\n", headers={hdrs.RETRY_AFTER: retry_after(5)})
            if reason:
                return self._turn_away(request, reason, identity)
            await self._await_turn(identity)
            request[IDENTITY] = identity
            return await handler(request)

        return guard

    async def _await_turn(self, identity: Identity) -> None:
        """However little there is in a request, taking it costs about a millisecond: the others' time too."""
        if self._requests is not None:
            wait = self._requests.queue(str(identity.tenant), self._clock.monotonic())
            if wait > 0:
                await self._clock.sleep(wait)

    def _reason(self, identity: Identity, path: str) -> Closed | None:
        now = self._clock.now()
        grace = self._renewal_grace if path == RENEW_PATH else timedelta(0)
        if not identity.not_before <= now < identity.not_after + grace:
            return Closed.EXPIRED
        return Closed.REVOKED if self._revocations.is_revoked(identity.serial) else None

    def _turn_away(self, request: web.Request, reason: Closed, identity: Identity | None = None) -> web.Response:
        self._metrics.turned_away.labels(reason).inc()
        who = identity.who if identity else f"address {request.remote}"
        self._notices.warn("turned_away", who, reason.value, peer=request.remote)
        headers = {hdrs.RETRY_AFTER: retry_after(2)} if reason is Closed.TOO_MANY else None
        status = 503 if reason is Closed.TOO_MANY else 403
        response = web.Response(status=status, text=f"{_REASONS[reason]}\n", headers=headers)
        response.force_close()
        return response
