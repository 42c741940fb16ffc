"""Open connections by the certificate they showed, so that those of a revoked one can be closed."""

from __future__ import annotations

from aiohttp.web_protocol import RequestHandler

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.identity import Identity
from kernel.identity.revocation import Revocations
from kernel.ids import Tenant
from metering.gateway.metrics import Closed, GatewayMetrics


class Connections:
    """Who has spoken on which connection. Everything here runs on the event loop."""

    def __init__(self, clock: Clock, metrics: GatewayMetrics, silent_seconds: float, per_tenant: int) -> None:
        self._clock = clock
        self._metrics = metrics
        self._silent_seconds = silent_seconds
        self._per_tenant = per_tenant
        self._identities: dict[RequestHandler, Identity] = {}
        self._first_seen: dict[RequestHandler, float] = {}

    def identity(self, connection: RequestHandler) -> Identity | None:
        """Who has spoken on this connection before."""
        return self._identities.get(connection)

    def identified(self, connection: RequestHandler, identity: Identity) -> bool:
        """A request with this identity has arrived on the connection; whether its tenant may have one more."""
        if connection not in self._identities:
            if self._count(identity.tenant) >= self._per_tenant:
                return False
            self._identities[connection] = identity
        return True

    def _count(self, tenant: Tenant) -> int:
        """Open connections of a tenant; asked once for each new connection."""
        return sum(
            one.transport is not None and identity.tenant == tenant for one, identity in self._identities.items()
        )

    def sweep(self, open_now: list[RequestHandler], revocations: Revocations) -> None:
        """Close what is revoked or expired, and what has not said who it is in time; forget what is closed."""
        now = self._clock.monotonic()
        here = set(open_now)
        self._identities = {one: identity for one, identity in self._identities.items() if one in here}
        self._first_seen = {one: self._first_seen.get(one, now) for one in open_now}
        for connection in open_now:
            reason = self._reason(connection, now, revocations)
            if reason:
                self._metrics.turned_away.labels(reason).inc()
                close(connection)
        self._metrics.connections.set(len(open_now))

    def _reason(self, connection: RequestHandler, now: float, revocations: Revocations) -> Closed | None:
        identity = self._identities.get(connection)
        if identity is None:
            return Closed.SILENT if now - self._first_seen[connection] > self._silent_seconds else None
        if self._clock.now() >= identity.not_after:
            return Closed.EXPIRED
        try:
            return Closed.REVOKED if revocations.is_revoked(identity.serial) else None
        except Retry:
            return None  # requests are answered 503 meanwhile; closing connections would not help


def close(connection: RequestHandler) -> None:
    """End a connection at once, in the middle of what it sends."""
    if connection.transport is not None:
        connection.transport.abort()
