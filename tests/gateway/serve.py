"""A gateway process on a SQLite log, for tests that kill it: `python -m tests.gateway.serve FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from kernel.clock import SystemClock
from kernel.database import Database, sqlite_url
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.log.sqlite import SqliteLog
from metering.gateway.app import GatewayParts
from metering.gateway.server import GatewayServer
from metering.gateway.settings import GatewaySettings
from metering.record import HISTORY_TOPIC, LIVE_TOPIC


async def serve(folder: Path) -> None:
    """Write the port to `port`, then run until killed."""
    clock = SystemClock()
    database = Database(sqlite_url(folder / "byoc.sqlite"))
    log = SqliteLog(folder / "log.sqlite", clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    parts = GatewayParts(
        GatewaySettings(port=0),
        await log.writer(),
        CertificateAuthority.open(folder / "authority", clock),
        EnrolmentTokens(database, clock),
        Revocations(database, clock),
        clock,
        CollectorRegistry(),
    )
    server = GatewayServer(parts)
    await server.start()
    (folder / "port.new").write_text(str(server.port))
    (folder / "port.new").rename(folder / "port")
    await asyncio.gather(server.watch(), parts.revocations.run())


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
