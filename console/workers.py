"""The gateway of `byoc up` in processes of its own: the parent's side, and what runs in each of them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from console.sections import Sections
from console.wiring import Vendor
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.service import Service
from metering.gateway.app import GatewayParts
from metering.gateway.server import serve_gateway
from metering.gateway.shares import SqliteShares, create_shares
from metering.gateway.workers import PortReservation, Workers, report

_SHARES_FILE = "shares.sqlite"


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is told by its parent, on its command line."""

    number: int
    port: int
    shares: Path
    report: int  # the handle of the pipe


async def start_workers(service: Service, vendor: Vendor, sections: Sections) -> int:
    """Start them as part of `service`; returns the port when each of them listens. Raises Stop, OSError."""
    settings = sections.gateway
    folder = tempfile.TemporaryDirectory(prefix="byoc-gateway-")
    shares = Path(folder.name) / _SHARES_FILE
    create_shares(shares)
    reserved = PortReservation(settings.host, settings.port)

    async def close() -> None:
        reserved.close()
        folder.cleanup()

    service.on_close("gateway-port", close)

    def command(number: int, handle: int) -> Sequence[str]:
        return worker_command(vendor, Seat(number, reserved.port, shares, handle))

    workers = Workers(command, settings.workers, vendor.clock)
    service.registry.register(workers)
    service.checks["gateway"] = workers.not_ready
    service.spawn("gateway-workers", workers.run())
    await workers.started()
    return reserved.port


def worker_command(vendor: Vendor, seat: Seat) -> Sequence[str]:
    """How a worker is started: the same settings, the same environment."""
    where = ("-c", str(vendor.source)) if vendor.source else ("--dir", str(vendor.folder))
    told = ("--number", seat.number, "--port", seat.port, "--shares", seat.shares, "--report", seat.report)
    return [sys.executable, "-m", "console", *where, "gateway-worker", *map(str, told)]


async def run_worker(vendor: Vendor, sections: Sections, seat: Seat) -> None:
    """In a worker: a gateway until SIGTERM, or until its parent is gone. Raises Stop."""
    settings = sections.gateway.model_copy(update={"port": seat.port})
    service = Service(f"gateway-{seat.number}", CollectorRegistry(), stop_seconds=sections.up.stop_seconds / 3)
    service.on_close("deployment", vendor.close)
    try:
        log = await vendor.log()
        writer = await log.writer()
        service.on_close("gateway-log", writer.close)
        database, clock, audit = vendor.database(), vendor.clock, vendor.audit()
        parts = GatewayParts(
            settings=settings,
            writer=writer,
            authority=CertificateAuthority.open(vendor.authority_folder, clock),
            tokens=EnrolmentTokens(database, clock, audit),
            revocations=Revocations(database, clock, audit),
            clock=clock,
            registry=service.registry,
            log=log,
            shares=SqliteShares(seat.shares, seat.number, settings.tenant),
        )
        await serve_gateway(service, parts)
        service.spawn("report", report(service, seat.report, clock))
    except BaseException:
        await service.shutdown()
        raise
    await service.run()
