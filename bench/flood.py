"""A tenant that floods: `python -m bench.flood FOLDER URL SECONDS`. Prints `ready`, then its answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections import Counter
from pathlib import Path

import aiohttp

from bench.identity import FILES
from bench.pushes import Scrapes, rw2
from kernel.identity import client_context

CONNECTIONS = 32
NAME = "flood"


async def flood(folder: Path, url: str, seconds: float) -> None:
    """Push as fast as there is an answer, whatever it is."""
    pushes = rw2(Scrapes(10_000, 3))
    context = client_context((folder / FILES.ca).read_bytes(), folder / f"{NAME}.pem", folder / f"{NAME}-key.pem")
    answers: Counter[str] = Counter()

    async def push(number: int) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            for body in itertools.cycle(pushes.bodies[number % 2 :]):
                try:
                    async with session.post(url, data=body, headers=pushes.headers) as answer:
                        answers[str(answer.status)] += 1
                except (aiohttp.ClientError, OSError) as error:
                    answers[type(error).__name__] += 1

    running = [asyncio.create_task(push(number)) for number in range(CONNECTIONS)]
    print("ready", flush=True)
    await asyncio.sleep(seconds)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    os.nice(19)  # it shares a core with the quiet tenant, whose own work is not what is measured
    asyncio.run(flood(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
