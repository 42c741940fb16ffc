"""A lake writer in a process of its own, to be killed or stopped at a named place.

Its argument is an order of `places` with {mode, stop_at?, settings?} beside. BYOC_CRASH_AT kills it; `stop_at`
halts it as SIGSTOP does, until SIGCONT. Prints one JSON object at its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from prometheus_client import CollectorRegistry

from kernel.crashpoints import crash_point
from kernel.logs import configure_logs
from metering.lake import commit, flush
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from tests.lake.places import open_places


def halt_at(place: str) -> None:
    real = crash_point

    def reached(name: str) -> None:
        real(name)
        if name == place:
            os.kill(os.getpid(), signal.SIGSTOP)

    for module in (flush, commit):
        setattr(module, crash_point.__name__, reached)


async def main(order: dict[str, Any]) -> None:
    configure_logs("ERROR")
    if "stop_at" in order:
        halt_at(order["stop_at"])
    registry = CollectorRegistry()
    async with open_places(order) as (log, lake):
        chosen = {"commit_seconds": 0.05, "keep_snapshots": 5, "fenced_limit": 1000} | order.get("settings", {})
        settings = LakeSettings.model_validate(chosen)
        writer = LakeWriter(lake, log, settings, registry=registry)
        if order["mode"] == "drain":
            await writer.drain()
        else:
            task = asyncio.ensure_future(writer.run())
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                raise task.exception() or RuntimeError
    names = ("samples_stored", "fenced_commits", "repeated_pushes")
    sys.stdout.write(json.dumps({name: registry.get_sample_value(f"byoc_lake_{name}_total") for name in names}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
