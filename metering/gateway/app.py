"""The gateway's application, wired."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web
from prometheus_client import CollectorRegistry

from collector.wire.receipt import RECEIPT_KEYS_PATH
from kernel.clock import Clock
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.log import LogWriter
from metering.gateway.connections import Connections
from metering.gateway.enrol import EnrolEndpoint, Signer
from metering.gateway.guard import ENROL_PATH, RENEW_PATH, Expected, Guard
from metering.gateway.intake import Intake, IntakeParts
from metering.gateway.metrics import GatewayMetrics
from metering.gateway.otlp.endpoint import METRICS_PATH, OtlpEndpoint
from metering.gateway.receipts import Receipts
from metering.gateway.settings import GatewaySettings
from metering.gateway.tenants import Tenants
from metering.gateway.write import WriteEndpoint

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


@dataclass(frozen=True, slots=True)
class Inside:
    """What the server beside the application needs of it."""

    metrics: GatewayMetrics
    tenants: Tenants
    connections: Connections


INSIDE = web.AppKey("inside", Inside)


def build_gateway(parts: GatewayParts) -> web.Application:
    """The application. Serve it with `metering.gateway.server`, which does the TLS and watches connections."""
    settings, clock = parts.settings, parts.clock
    metrics = GatewayMetrics(parts.registry)
    tenants = Tenants(settings.tenant, max(1, settings.concurrent_decodes - 1))  # one turn is left for the others
    connections = Connections(clock, metrics, settings.handshake_seconds)
    expected = Expected(
        parts.authority.trust_domain, parts.revocations, timedelta(days=settings.renewal_grace_days)
    )
    parts.authority.client_lifetime = timedelta(seconds=settings.certificate_seconds)
    guard = Guard(expected, clock, metrics, connections)
    enrol = EnrolEndpoint(Signer(parts.authority, parts.tokens), settings.enrolments_per_minute, clock, metrics)
    receipts = Receipts(parts.authority)
    intake = Intake(IntakeParts(settings, parts.writer, clock, metrics))
    write = WriteEndpoint(intake, tenants, receipts)
    # aiohttp's own limit never acts: bodies are read as streams with limits of their own.
    app = web.Application(middlewares=[guard.middleware()], client_max_size=settings.body.body_bytes)
    app[INSIDE] = Inside(metrics, tenants, connections)
    app.add_routes(
        [
            web.post(ENROL_PATH, enrol.enrol),
            web.post(RENEW_PATH, enrol.renew),
            web.post(WRITE_PATH, write.post),
            web.post(METRICS_PATH, OtlpEndpoint(intake, tenants).post),
            web.get(RECEIPT_KEYS_PATH, receipts.keys),
        ]
    )
    return app
