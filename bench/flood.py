"""A tenant that floods, by signals: `python -m bench.flood FOLDER URL`.

Prints `ready`. After BEGIN it pushes as fast as there is an answer, whatever that is, and prints `held back` at the
first 429. After REST it sends nothing more, and prints its answers since BEGIN when the last of them is there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import aiohttp

from bench.identity import FILES
from bench.pushes import Pushes, Scrapes, rw2
from kernel.identity import client_context

CONNECTIONS = 32
NAME = "flood"
BEGIN, REST = signal.SIGUSR1, signal.SIGUSR2


class _Flood:
    def __init__(self, folder: Path, url: str, pushes: Pushes) -> None:
        authority = (folder / FILES.ca).read_bytes()
        self._context = client_context(authority, folder / f"{NAME}.pem", folder / f"{NAME}-key.pem")
        self._url, self._pushes = url, pushes
        self._begun, self._rest = asyncio.Event(), asyncio.Event()
        self._answers: Counter[str] = Counter()

    async def run(self) -> None:
        """Until it is ended."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(BEGIN, self._begun.set)
        loop.add_signal_handler(REST, self._rest.set)
        print("ready", flush=True)
        sessions = [
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context)) for _ in range(CONNECTIONS)
        ]
        while True:
            await self._begun.wait()
            self._rest.clear()
            self._answers.clear()
            await asyncio.gather(*(self._push(session, number) for number, session in enumerate(sessions)))
            self._begun.clear()
            print(json.dumps(self._answers), flush=True)

    async def _push(self, session: aiohttp.ClientSession, number: int) -> None:
        for body in itertools.cycle(self._pushes.bodies[number % 2 :]):
            if self._rest.is_set():
                return
            try:
                async with session.post(self._url, data=body, headers=self._pushes.headers) as answer:
                    self._count(str(answer.status))
            except (aiohttp.ClientError, OSError) as error:
                self._count(type(error).__name__)

    def _count(self, answer: str) -> None:
        if answer == "429" and not self._answers[answer]:
            print("held back", flush=True)
        self._answers[answer] += 1


if __name__ == "__main__":
    os.nice(19)  # it shares a core with the quiet tenant, whose own work is not what is measured
    asyncio.run(_Flood(Path(sys.argv[1]), sys.argv[2], rw2(Scrapes(10_000, 3))).run())
