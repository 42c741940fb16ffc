"""Who may speak: checked at every request, since a connection outlives a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.identity import Identity, is_strong, peer_identity
from kernel.identity.revocation import Revocations
from kernel.logs import logger
from metering.gateway.buckets import retry_after
from metering.gateway.connections import Connections
from metering.gateway.metrics import Closed, GatewayMetrics

ENROL_PATH = "/enrol"
RENEW_PATH = "/renew"
IDENTITY = web.RequestKey("identity", Identity)
_log = logger("gateway")
_REASONS = {
    Closed.NO_CERTIFICATE: "a client certificate is required: enrol first",
    Closed.WEAK_CIPHER: "TLS 1.2 or newer with AES-256-GCM is required",
    Closed.EXPIRED: "the client certificate has expired, or does not begin yet: renew it, or enrol again",
    Closed.REVOKED: "the client certificate was revoked: enrol again",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a certificate is held against."""

    trust_domain: str
    revocations: Revocations
    renewal_grace: timedelta = timedelta(0)  # how long after its end a certificate may still renew itself


class Guard:
    """Turns away weak ciphers, missing, foreign, expired and revoked certificates.

    An expired one may still ask for its successor for a while: a collector that was cut off over the end of its
    certificate comes back by itself.
    """

    def __init__(self, expected: Expected, clock: Clock, metrics: GatewayMetrics, connections: Connections) -> None:
        self._trust_domain = expected.trust_domain
        self._revocations = expected.revocations
        self._renewal_grace = expected.renewal_grace
        self._clock = clock
        self._metrics = metrics
        self._connections = connections

    def middleware(self) -> Middleware:
        """The first middleware of the application: runs before anything of a request is looked at."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not is_strong(request.transport):
                return self._turn_away(request, Closed.WEAK_CIPHER)
            if request.path == ENROL_PATH:
                return await handler(request)
            identity = peer_identity(request.transport, self._trust_domain)
            if identity is None:
                return self._turn_away(request, Closed.NO_CERTIFICATE)
            if request.path != RENEW_PATH:  # the sweep would close an expired one in the middle of its renewal
                self._connections.identified(request.protocol, identity)
            try:
                reason = self._reason(identity, request.path)
            except Retry as error:
                self._metrics.turned_away.labels(Closed.STALE_REVOCATIONS).inc()
                return web.Response(status=503, text=f"{error}\n", headers={hdrs.RETRY_AFTER: retry_after(5)})
            if reason:
                return self._turn_away(request, reason, identity)
            request[IDENTITY] = identity
            return await handler(request)

        return guard

    def _reason(self, identity: Identity, path: str) -> Closed | None:
        now = self._clock.now()
        grace = self._renewal_grace if path == RENEW_PATH else timedelta(0)
        if not identity.not_before <= now < identity.not_after + grace:
            return Closed.EXPIRED
        return Closed.REVOKED if self._revocations.is_revoked(identity.serial) else None

    def _turn_away(self, request: web.Request, reason: Closed, identity: Identity | None = None) -> web.Response:
        self._metrics.turned_away.labels(reason).inc()
        _log.warning("turned_away", reason=reason.value, peer=request.remote, who=identity and identity.who)
        response = web.Response(status=403, text=f"{_REASONS[reason]}\n")
        response.force_close()
        return response
