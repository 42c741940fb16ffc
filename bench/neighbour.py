"""What a tenant that floods does to another: the other's 99th percentile of a push, beside it and alone.

One gateway on a core of its own, with the default limits of a tenant. The quiet tenant pushes a scrape of 2,000
samples in frames some forty times a second. The other sends remote write 2.0 over 32 connections as fast as it is
answered, heeds no Retry-After, and is a process of its own that yields to the quiet one. Short windows alone and
beside it alternate, and the figure is the median of the ratios of two windows that follow each other, so that what
else the machine does falls on both. A tenant may send a burst, a million samples by default: the figure is of the
flood behind it, from the first 429 on, and `details` say what the burst itself does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import numpy.typing as npt

from bench.flood import BEGIN, NAME, REST
from bench.identity import FILES, write_client, write_identity
from bench.machine import measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import Program, program, python
from bench.pushes import Pushes, Scrapes, frames
from collector.wire.headers import PushHeaders
from kernel.identity import client_context
from kernel.ids import OrganizationId, ProjectId, Tenant

BUDGET = Budget(1.2)
FLOODER = Tenant(OrganizationId("flood"), ProjectId("prod"))
EVERY_SECONDS = 0.025
SAMPLES = 2_000
WARM_SECONDS = 2.0

Seconds = npt.NDArray[np.float64]


@dataclass
class _Found:
    """Seconds of each push, by window."""

    alone: list[Seconds] = field(default_factory=list)
    beside: list[Seconds] = field(default_factory=list)
    burst: list[Seconds] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Plan:
    rounds: int
    seconds: float


def measure(*, quick: bool) -> Outcome:
    """The ratio of the two percentiles, by round."""
    plan = _Plan(6, 2.5) if quick else _Plan(16, 4.0)
    found = asyncio.run(_run(plan))
    whole_alone, whole_beside = np.concatenate(found.alone), np.concatenate(found.beside)
    return Outcome(
        "neighbour",
        "99th percentile of a quiet tenant's push beside a flooding one, over the same alone",
        [_p99(one) / _p99(other) for one, other in zip(found.beside, found.alone, strict=True)],
        [],
        BUDGET,
        {
            "p99_ms_alone": round(_p99(whole_alone) * 1000, 2),
            "p99_ms_beside": round(_p99(whole_beside) * 1000, 2),
            "median_ms_alone": round(float(np.median(whole_alone)) * 1000, 2),
            "median_ms_beside": round(float(np.median(whole_beside)) * 1000, 2),
            "ratio_of_all_windows_together": round(_p99(whole_beside) / _p99(whole_alone), 2),
            "pushes": len(whole_alone) + len(whole_beside),
            "p99_ms_in_the_burst": round(_p99(np.concatenate(found.burst)) * 1000, 2),
            "answers_to_the_flood": dict(found.answered),
        },
    )


async def _run(plan: _Plan) -> _Found:
    pushes = frames(Scrapes(SAMPLES, 4))
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        write_client(folder, FLOODER, NAME)
        command = python("-m", "bench.serve_vendor", "gateway", text, "--log=memory", "--cache=-")
        async with program("gateway", command, folder, measured_core()) as server:
            url = f"https://localhost:{int(await server.line())}/api/v1/write"
            flood_command = python("-m", "bench.flood", text, url)
            async with (
                program("flood", flood_command, folder, other_core()) as flood,
                _session(folder) as session,
            ):
                await flood.line()
                return await _rounds(plan, _Quiet(session, url, pushes), flood)


async def _rounds(plan: _Plan, quiet: _Quiet, flood: Program) -> _Found:
    found = _Found()
    await quiet.begin()
    for number in range(plan.rounds):
        found.alone.append(await quiet.pushes_for(plan.seconds))
        os.kill(flood.pid, BEGIN)
        is_held_back = asyncio.create_task(flood.line())
        found.burst.append(await quiet.pushes_until(is_held_back.done))
        found.beside.append(await quiet.pushes_for(plan.seconds))
        os.kill(flood.pid, REST)
        found.answered.update(json.loads(await flood.line()))
        note(f"neighbour {number + 1}: {_p99(found.alone[-1]):.4f} s alone, {_p99(found.beside[-1]):.4f} s beside")
    return found


class _Quiet:
    """The tenant that is measured."""

    def __init__(self, session: aiohttp.ClientSession, url: str, pushes: Pushes) -> None:
        self._session, self._url, self._pushes = session, url, pushes
        self._bodies, self._numbers = itertools.cycle(pushes.bodies), itertools.count(1)
        self._dice = random.Random(7)

    async def begin(self) -> None:
        """Bring all series, and push until everything is warm."""
        for body in self._pushes.first:
            await self._push(body)
        await self.pushes_for(WARM_SECONDS)

    async def pushes_for(self, seconds: float) -> Seconds:
        """Seconds that each push took."""
        until = time.monotonic() + seconds
        return await self.pushes_until(lambda: time.monotonic() >= until)

    async def pushes_until(self, is_over: Callable[[], bool]) -> Seconds:
        """The same of one push at least. At uneven times, so that they keep no step with anything."""
        took: list[float] = []
        while not took or not is_over():
            started = time.monotonic()
            await self._push(next(self._bodies))
            took.append(time.monotonic() - started)
            await asyncio.sleep(max(0.0, EVERY_SECONDS * self._dice.uniform(0.5, 1.5) - took[-1]))
        return np.asarray(took)

    async def _push(self, body: bytes) -> None:
        headers = self._pushes.headers | PushHeaders(1, next(self._numbers)).render()
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            if answer.status != 200:
                raise AssertionError(f"the quiet tenant was answered {answer.status}: {await answer.text()}")
            await answer.read()


def _session(folder: Path) -> aiohttp.ClientSession:
    authority = (folder / FILES.ca).read_bytes()
    context = client_context(authority, folder / FILES.client, folder / FILES.client_key)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


def _p99(seconds: Seconds) -> float:
    return float(np.quantile(seconds, 0.99))
