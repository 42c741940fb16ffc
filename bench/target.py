"""Targets in a process of their own: prints their ports, then a line for each scrape of the first as it begins.

Pages are made before the first scrape, so that making them takes no processor time while one is measured; past the
last prepared page the next is made on demand. Recorded pages are served in the order of their names, each target
beginning one later than the one before; past the last one the scrape fails, as no page comes twice.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from aiohttp import web

from bench.exposition import Exposition

_TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def made(series: int, churn: float, quiet: int, seed: int) -> Iterator[bytes]:
    """Pages without end; the first `quiet` all have the same series."""
    exposition, number = Exposition(series, churn, seed), 0
    while True:
        number += 1
        yield exposition.page(replaces=number > quiet)


def recorded(folder: Path, first: int) -> Iterator[bytes]:
    """The pages of a recording, from one of them on."""
    for path in sorted(folder.iterdir())[first:]:
        yield path.read_bytes()


class Target:
    """Serves pages in order; says when a scrape begins if it `is_heard`."""

    def __init__(self, pages: Iterator[bytes], prepared: int, *, is_heard: bool) -> None:
        self._later = pages
        self._pages = deque(islice(pages, prepared))
        self._scrapes = 0
        self._is_heard = is_heard

    async def answer(self, request: web.Request) -> web.Response:
        self._scrapes += 1
        if self._is_heard:
            print(self._scrapes, flush=True)
        page = self._pages.popleft() if self._pages else next(self._later, None)
        return web.Response(status=503) if page is None else web.Response(body=page, headers=_TEXT)


async def serve(arguments: argparse.Namespace) -> None:
    ports = []
    for number in range(arguments.targets):
        if arguments.recording:
            pages = recorded(arguments.recording, number)
        else:
            pages = made(arguments.series, arguments.churn, arguments.quiet, 7 + number)
        target = Target(pages, arguments.prepared, is_heard=number == 0)
        app = web.Application()
        app.add_routes([web.get("/metrics", target.answer)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
    print(*ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--series", type=int, default=0, help="of each target")
    parser.add_argument("--churn", type=float, default=0.0)
    parser.add_argument("--quiet", type=int, default=0, help="pages before any series is replaced")
    parser.add_argument("--prepared", type=int, required=True)
    parser.add_argument("--recording", type=Path)
    asyncio.run(serve(parser.parse_args()))
