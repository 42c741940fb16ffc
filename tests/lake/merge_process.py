"""Merges of a lake in processes that are killed: reads places from stdin, a line each, and prints how each ended.

Its argument is a JSON object, {folder, settings}. A child for each place is forked before anything has threads, so
that the libraries are loaded once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from kernel.crashpoints import arm
from kernel.logs import configure_logs
from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from tests.lake.setting import open_lake


async def merge(order: dict[str, Any]) -> None:
    lake = await open_lake(Path(order["folder"]))
    while await Compactor(lake.places, LakeSettings.model_validate(order["settings"])).compact_one(2):
        pass


def main(order: dict[str, Any]) -> None:
    configure_logs("ERROR")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            arm(line.strip())
            asyncio.run(merge(order))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
