"""A target in a process of its own: prints its port, then a line for each scrape as it begins.

Pages are made before the first scrape, so that making them takes no processor time while one is measured; past the
last prepared page the next is made on demand.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque

from aiohttp import web

from bench.exposition import Exposition


class Target:
    """Serves the pages of an exposition in order."""

    def __init__(self, exposition: Exposition, prepared: int) -> None:
        self._exposition = exposition
        self._pages = deque(exposition.page() for _ in range(prepared))
        self._scrapes = 0

    async def answer(self, request: web.Request) -> web.Response:
        self._scrapes += 1
        print(self._scrapes, flush=True)
        page = self._pages.popleft() if self._pages else self._exposition.page()
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def serve(arguments: argparse.Namespace) -> None:
    target = Target(Exposition(arguments.series, arguments.churn), arguments.prepared)
    app = web.Application()
    app.add_routes([web.get("/metrics", target.answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, required=True)
    parser.add_argument("--churn", type=float, required=True)
    parser.add_argument("--prepared", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))
