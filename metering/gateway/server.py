"""The gateway's listener: TLS with a certificate that renews itself, and a watch over the open connections."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.identity import CertificateAuthority, load_certificate, server_context
from kernel.identity.revocation import Revocations
from kernel.logs import logger
from kernel.service import Service
from metering.gateway.app import INSIDE, GatewayParts, Inside, build_gateway
from metering.gateway.refusals import RefusedPushes

_WATCH_SECONDS = 1.0
_LINGER_SECONDS = 2.0
# A thread that decodes a large body holds the interpreter for so long while the loop waits to answer a small push.
# Python's default of 5 ms would be paid several times in each push beside a tenant that sends much.
_SWITCH_SECONDS = 0.0005
_log = logger("gateway")


class ServerCertificate:
    """The gateway's own certificate, signed by its CA at the start and again at two thirds of its life."""

    def __init__(self, authority: CertificateAuthority, host_names: tuple[str, ...], clock: Clock) -> None:
        self._authority, self._host_names, self._clock = authority, host_names, clock
        self._renew_at: datetime
        self.not_after: datetime
        with tempfile.TemporaryDirectory(prefix="byoc-gateway-") as folder:
            self.context = server_context(*self._write(Path(folder)), authority.certificate_pem)

    def renew_if_due(self) -> bool:
        """Sign and load a new one when it is time. Blocking. Connections that are open are not disturbed."""
        if self._clock.now() < self._renew_at:
            return False
        with tempfile.TemporaryDirectory(prefix="byoc-gateway-") as folder:
            load_certificate(self.context, *self._write(Path(folder)))
        return True

    def _write(self, folder: Path) -> tuple[Path, Path]:
        """The files that OpenSSL insists on; the folder is readable by us alone and gone in a moment."""
        issued = self._authority.issue_server(self._host_names)
        assert issued.private_key_pem is not None
        certificate, key = folder / "gateway.pem", folder / "gateway-key.pem"
        certificate.write_bytes(issued.certificate_pem)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(issued.private_key_pem)
        self._renew_at = issued.issued_at + (issued.not_after - issued.issued_at) * 2 / 3
        self.not_after = issued.not_after
        return certificate, key


class _NotOfStrangers(logging.Filter):
    """Drops the trace of a request that is no HTTP: else anyone could fill our disk with them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))


def _http_logger() -> logging.Logger:
    found = logging.getLogger("byoc.gateway.http")
    if not found.filters:
        found.addFilter(_NotOfStrangers())
    return found


class GatewayServer:
    """A listening gateway. `start`, then `watch` as a task, then `stop`."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._certificate = ServerCertificate(parts.authority, parts.settings.host_names, parts.clock)
        app = build_gateway(parts)
        self._inside: Inside = app[INSIDE]
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_logger(),
            auto_decompress=False,  # a gzip bomb must not be unpacked before anyone looked at it
            keepalive_timeout=parts.settings.keepalive_seconds,
            lingering_time=_LINGER_SECONDS,
            shutdown_timeout=5.0,
        )
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def context(self) -> ssl.SSLContext:
        return self._certificate.context

    @property
    def refused(self) -> RefusedPushes | None:
        """What reads the refusals' topic, to be run as a task."""
        return self._inside.refused

    async def start(self) -> int:
        """Read the revocations, then listen; returns the port. Raises DatabaseUnavailable, OSError."""
        settings = self._parts.settings
        sys.setswitchinterval(_SWITCH_SECONDS)
        await asyncio.to_thread(self._parts.revocations.refresh)
        loop = asyncio.get_running_loop()

        def sweep_soon() -> None:  # called in the thread that read the list, perhaps after our end
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.sweep)

        self._parts.revocations.on_change(sweep_soon)
        await self._runner.setup()
        factory: Any = self._runner.server
        self._server = await loop.create_server(
            factory,
            settings.host,
            settings.port,
            ssl=self.context,
            ssl_handshake_timeout=settings.handshake_seconds,
            ssl_shutdown_timeout=_LINGER_SECONDS,
            backlog=512,
            reuse_port=settings.workers > 1,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        _log.info("listening", host=settings.host, port=self.port)
        return self.port

    def sweep(self) -> None:
        """Close connections of revoked and expired certificates, now."""
        server = self._runner.server
        if server is not None:
            self._inside.connections.sweep(server.connections, self._parts.revocations)

    async def watch(self) -> None:
        """Every second until cancelled: sweep, forget silent tenants, renew the own certificate."""
        clock, inside = self._parts.clock, self._inside
        while True:
            self.sweep()
            inside.tenants.forget_silent(clock.monotonic())
            inside.groups.forget_idle(clock.monotonic())
            inside.metrics.groups.set(len(inside.groups))
            inside.metrics.tenants.set(len(inside.tenants))
            inside.metrics.active_series.set(inside.tenants.active_series())
            if await asyncio.to_thread(self._certificate.renew_if_due):
                _log.info("own_certificate_renewed", not_after=str(self._certificate.not_after))
            inside.metrics.expiry.set(self._certificate.not_after.timestamp())
            await clock.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        """Stop listening, let requests end for five seconds, close. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._runner.cleanup()


async def serve_gateway(service: Service, parts: GatewayParts) -> int:
    """Run a gateway as part of `service`, with its watch and the refresh of revocations; returns the port."""
    server = GatewayServer(parts)
    port = await server.start()
    service.on_close("gateway", server.stop)
    service.spawn("gateway-watch", server.watch())
    service.spawn("gateway-revocations", parts.revocations.run())
    if server.refused is not None:
        service.spawn("gateway-refusals", server.refused.run())
    service.checks["gateway"] = lambda: _why_not_ready(parts.revocations)
    return port


def _why_not_ready(revocations: Revocations) -> str | None:
    try:
        revocations.is_revoked("0")
    except Retry as error:
        return str(error)
    return None
