"""Log, objects and lake of one folder, as the vendor side has them when embedded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kernel.clock import SystemClock
from kernel.log.sqlite import SqliteLog
from kernel.objects.local import LocalObjects
from metering.lake.api import Lake
from metering.record import HISTORY_TOPIC, LIVE_TOPIC

LEASE_SECONDS = 1.0


@asynccontextmanager
async def open_embedded(folder: Path) -> AsyncIterator[tuple[SqliteLog, Lake]]:
    clock = SystemClock()
    log = SqliteLog(folder / "log.sqlite", clock, lease_seconds=LEASE_SECONDS)
    await log.ensure_topics({LIVE_TOPIC: 4, HISTORY_TOPIC: 1})
    lake = await Lake.open(
        f"sqlite:///{folder}/catalog.db", str(folder / "warehouse"), LocalObjects(folder / "objects"), clock
    )
    try:
        yield log, lake
    finally:
        await lake.close()
        await log.close()
