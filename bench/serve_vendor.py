"""A part of the vendor side in a process of its own: `python -m bench.serve_vendor gateway|lake|both FOLDER`.

They meet at a log on SQLite in the folder, or at the Kafka of `--log=HOST:PORT`; `both` share one process and a log
in memory. A gateway prints its port; `--log=memory` gives it a log whose appends are nearly free. Rate limits are
set beyond what a benchmark sends, unless `--cache=-`; all else is as it is by default.
"""

from __future__ import annotations

import argparse
import asyncio
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
from kernel.log.kafka import KafkaLog
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


async def serve(arguments: argparse.Namespace) -> None:
    """Until it is ended."""
    part, folder = arguments.part, arguments.folder
    log = open_log(folder, "memory" if part == "both" else arguments.log)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1, REFUSALS_TOPIC: 1})
    tasks = []
    if part != "gateway":
        tasks.append(_write_lake(log, folder))
    if part != "lake":
        tasks.append(_serve_gateway(log, folder, limits_of(arguments.cache)))
    await asyncio.gather(*tasks)


def open_log(folder: Path, kind: str) -> Log:
    """`memory`, `sqlite` or the address of a Kafka."""
    clock = SystemClock()
    if kind == "memory":
        return MemoryLog(clock)
    return SqliteLog(folder / "log.sqlite", clock) if kind == "sqlite" else KafkaLog(kind)


async def open_lake(folder: Path) -> Lake:
    """The lake in a folder."""
    objects = LocalObjects(folder / "objects")
    return await Lake.open(f"sqlite:///{folder}/catalog.db", str(folder / "warehouse"), objects, SystemClock())


def limits_of(cache: str) -> TenantLimits:
    """No limits but that of the cache, in bytes; `-` for those that a gateway has by default."""
    if cache == "-":
        return TenantLimits()
    return TenantLimits(
        samples_per_second=_MANY,
        burst_samples=_MANY,
        active_series=_MANY,
        requests_per_second=_MANY,
        series_cache_bytes=int(cache),
    )


async def _write_lake(log: Log, folder: Path) -> None:
    await LakeWriter(await open_lake(folder), log, LakeSettings()).run()


async def _serve_gateway(log: Log, folder: Path, limits: TenantLimits) -> None:
    clock = SystemClock()
    database = Database(sqlite_url(folder / "byoc.sqlite"))
    migrate(database)
    authority = CertificateAuthority.open(folder / FILES.authority, clock)
    revocations = Revocations(database, clock)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["gateway", "lake", "both"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--log", default="sqlite")
    parser.add_argument("--cache", default=str(2**30))
    uvloop.run(serve(parser.parse_args()))
