"""The gateway's application, wired."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web
from prometheus_client import CollectorRegistry

from collector.wire.frames import MAX_BODY_BYTES, FrameLimits
from collector.wire.receipt import RECEIPT_KEYS_PATH
from kernel.clock import Clock
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.log import Log, LogWriter
from metering.gateway.connections import Connections
from metering.gateway.enrol import EnrolEndpoint, Signer
from metering.gateway.groups import Groups
from metering.gateway.guard import ENROL_PATH, RENEW_PATH, Expected, Guard, Watch
from metering.gateway.intake import Intake, IntakeParts
from metering.gateway.metrics import GatewayMetrics
from metering.gateway.notices import Notices
from metering.gateway.otlp.endpoint import METRICS_PATH, OtlpEndpoint
from metering.gateway.receipts import Receipts
from metering.gateway.refusals import RefusedPushes
from metering.gateway.settings import GatewaySettings
from metering.gateway.shares import MemoryShares, Shares
from metering.gateway.tenants import Tenants
from metering.gateway.write import Remembered, WriteEndpoint

WRITE_PATH = "/api/v1/write"


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What a gateway is made of. The log's topics must exist."""

    settings: GatewaySettings
    writer: LogWriter
    authority: CertificateAuthority
    tokens: EnrolmentTokens
    revocations: Revocations
    clock: Clock
    registry: CollectorRegistry
    log: Log | None = None  # to read refusals from; None: none are told
    shares: Shares | None = None  # with other workers; None: there are none


@dataclass(frozen=True, slots=True)
class Inside:
    """What the server beside the application needs of it."""

    metrics: GatewayMetrics
    tenants: Tenants
    groups: Groups
    connections: Connections
    refused: RefusedPushes | None


INSIDE = web.AppKey("inside", Inside)


def build_gateway(parts: GatewayParts) -> web.Application:
    """The application. Serve it with `metering.gateway.server`, which does the TLS and watches connections."""
    settings, clock = parts.settings, parts.clock
    metrics = GatewayMetrics(parts.registry)
    shares = parts.shares or MemoryShares(settings.tenant)
    # One turn to decode is left for the others.
    tenants = Tenants(settings.tenant, max(1, settings.concurrent_decodes - 1), shares)
    connections = Connections(clock, metrics, settings.handshake_seconds, settings.tenant.connections)
    watch = Watch(clock, metrics, Notices(clock))
    expected = Expected(
        parts.authority.trust_domain,
        parts.revocations,
        timedelta(days=settings.renewal_grace_days),
        settings.tenant.requests_per_second,
    )
    parts.authority.client_lifetime = timedelta(seconds=settings.certificate_seconds)
    guard = Guard(expected, connections, watch)
    enrol = EnrolEndpoint(Signer(parts.authority, parts.tokens), settings.enrolments_per_minute, watch)
    receipts = Receipts(parts.authority)
    refused = RefusedPushes(parts.log, clock, metrics) if parts.log else None
    groups = Groups(FrameLimits(max_body_bytes=min(MAX_BODY_BYTES, settings.body.body_bytes)), shares)
    intake = Intake(IntakeParts(settings, parts.writer, clock, metrics))
    write = WriteEndpoint(intake, Remembered(tenants, groups, refused), receipts, watch.notices)
    # aiohttp's own limit never acts: bodies are read as streams with limits of their own.
    app = web.Application(middlewares=[guard.middleware()], client_max_size=settings.body.body_bytes)
    app.on_cleanup.append(intake.close)
    app[INSIDE] = Inside(metrics, tenants, groups, connections, refused)
    app.add_routes(
        [
            web.post(ENROL_PATH, enrol.enrol),
            web.post(RENEW_PATH, enrol.renew),
            web.post(WRITE_PATH, write.post),
            web.post(METRICS_PATH, OtlpEndpoint(intake, tenants, watch.notices).post),
            web.get(RECEIPT_KEYS_PATH, receipts.keys),
        ]
    )
    return app
