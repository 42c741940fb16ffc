"""A gateway in a process of its own, on a log in memory: `python -m bench.serve_gateway FOLDER CACHE_BYTES`.

Prints its port. Its rate limits are set beyond what a benchmark sends, unless CACHE_BYTES is `-`; an append to that
log is nearly free.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from bench.identity import FILES
from console.migrate import migrate
from kernel.clock import SystemClock
from kernel.database import Database, sqlite_url
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.log.memory import MemoryLog
from kernel.logs import configure_logs
from metering.gateway.app import GatewayParts
from metering.gateway.server import GatewayServer
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.record import HISTORY_TOPIC, LIVE_TOPIC

_MANY = 10**9


def limits_of(cache_bytes: str) -> TenantLimits:
    """No limits but that of the cache; `-` for those that a gateway has by default."""
    if cache_bytes == "-":
        return TenantLimits()
    return TenantLimits(
        samples_per_second=_MANY, burst_samples=_MANY, active_series=_MANY, series_cache_bytes=int(cache_bytes)
    )


async def serve(folder: Path, limits: TenantLimits) -> None:
    clock = SystemClock()
    database = Database(sqlite_url(folder / "byoc.sqlite"))
    migrate(database)
    authority = CertificateAuthority.open(folder / FILES.authority, clock)
    revocations = Revocations(database, clock)
    log = MemoryLog(clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    parts = GatewayParts(
        GatewaySettings(port=0, tenant=limits),
        await log.writer(),
        authority,
        EnrolmentTokens(database, clock),
        revocations,
        clock,
        CollectorRegistry(),
    )
    server = GatewayServer(parts)
    await server.start()
    print(server.port, flush=True)
    await asyncio.gather(server.watch(), revocations.run())


if __name__ == "__main__":
    configure_logs("ERROR")
    uvloop.run(serve(Path(sys.argv[1]), limits_of(sys.argv[2])))
