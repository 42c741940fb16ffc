"""A part of the vendor side in a process of its own: `python -m bench.serve_vendor gateway|lake|both FOLDER`.

They meet at a log on SQLite in the folder; `both` share one process and a log in memory. A gateway prints its port.
Rate limits are set beyond what a benchmark sends; all else is as it is by default.
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
from kernel.log import Log
from kernel.log.memory import MemoryLog
from kernel.log.sqlite import SqliteLog
from kernel.logs import configure_logs
from kernel.objects.local import LocalObjects
from metering.gateway.app import GatewayParts
from metering.gateway.server import GatewayServer
from metering.gateway.settings import GatewaySettings, TenantLimits
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import HISTORY_TOPIC, LIVE_TOPIC
from metering.refusal import REFUSALS_TOPIC

_MANY = 10**9


async def serve(part: str, folder: Path) -> None:
    """Until it is ended."""
    clock = SystemClock()
    log: Log = MemoryLog(clock) if part == "both" else SqliteLog(folder / "log.sqlite", clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1, REFUSALS_TOPIC: 1})
    tasks = []
    if part != "gateway":
        tasks.append(_write_lake(log, folder))
    if part != "lake":
        tasks.append(_serve_gateway(log, folder))
    await asyncio.gather(*tasks)


async def open_lake(folder: Path) -> Lake:
    """The lake in a folder."""
    objects = LocalObjects(folder / "objects")
    return await Lake.open(f"sqlite:///{folder}/catalog.db", str(folder / "warehouse"), objects, SystemClock())


async def _write_lake(log: Log, folder: Path) -> None:
    await LakeWriter(await open_lake(folder), log, LakeSettings()).run()


async def _serve_gateway(log: Log, folder: Path) -> None:
    clock = SystemClock()
    database = Database(sqlite_url(folder / "byoc.sqlite"))
    migrate(database)
    authority = CertificateAuthority.open(folder / FILES.authority, clock)
    revocations = Revocations(database, clock)
    limits = TenantLimits(
        samples_per_second=_MANY, burst_samples=_MANY, active_series=_MANY, series_cache_bytes=2**30
    )
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
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
