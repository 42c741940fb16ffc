"""The alert service as a process of its own.

`python -m tests.alerts.ruler_process DATABASE_URL FOLDER RECEIVER_URL`; BYOC_CRASH_AT kills it at a named place.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from alerts.api import AlertService, AlertSettings
from kernel.clock import SystemClock
from kernel.database import Database
from kernel.log.sqlite import SqliteLog
from tests.alerts.receiver import SECRET


async def main(database_url: str, folder: Path, receiver_url: str) -> None:
    settings = AlertSettings.model_validate(
        {
            "rule_files": [folder / "rules.yaml"],
            "builtin_rules": False,
            "allow_private_receivers": True,
            "poll_seconds": 0.05,
            "watermark_wait_seconds": 0,
            "receivers": [{"name": "oncall", "url": receiver_url, "secret": SECRET}],
        }
    )
    clock = SystemClock()
    log = SqliteLog(folder / "log.sqlite", clock)
    await AlertService(Database(database_url), log, clock, settings).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
