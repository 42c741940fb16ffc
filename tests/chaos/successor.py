"""A second lake writer on a vendor's storage, that stores what the log holds and ends.

`python -m tests.chaos.successor VENDOR_YAML` prints {"samples_stored": n}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from console.up import open_lake
from console.wiring import open_vendor
from kernel.logs import configure_logs
from metering.lake.writer import LakeWriter


async def main(config: Path) -> None:
    configure_logs("ERROR")
    vendor = open_vendor(None, config)
    lake = await open_lake(vendor)
    try:
        stored = await LakeWriter(lake, await vendor.log()).drain()
    finally:
        await lake.close()
        await vendor.close()
    sys.stdout.write(json.dumps({"samples_stored": stored}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
