"""What a tenant that floods does to another: the other's 99th percentile of a push, beside it and alone.

One gateway on a core of its own, with the default limits of a tenant. The quiet tenant pushes a scrape of 2,000
samples in frames every 50 ms. The other sends remote write 2.0 over 32 connections as fast as it is answered, heeds
no Retry-After, and is a process of its own that yields to the quiet one. Rounds alternate, so that both see the
same machine. A tenant may send a burst, a million samples by default: the figure is of the flood behind it, and
`details` say what the burst itself does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
import numpy.typing as npt

from bench.flood import NAME
from bench.identity import FILES, write_client, write_identity
from bench.machine import measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import program, python
from bench.pushes import Pushes, Scrapes, frames
from collector.wire.headers import PushHeaders
from kernel.identity import client_context
from kernel.ids import OrganizationId, ProjectId, Tenant

BUDGET = Budget(1.2)
FLOODER = Tenant(OrganizationId("flood"), ProjectId("prod"))
EVERY_SECONDS = 0.05
SAMPLES = 2_000
BURST_SECONDS = 4.0


Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Found:
    alone: list[Seconds]
    beside: list[Seconds]
    burst: list[Seconds]
    answered: Counter[str]


@dataclass(frozen=True)
class _Plan:
    rounds: int
    seconds: float


def measure(*, quick: bool) -> Outcome:
    """The ratio of the two percentiles."""
    plan = _Plan(2, 6.0) if quick else _Plan(6, 10.0)
    found = asyncio.run(_run(plan))
    runs = [_p99(one) / _p99(other) for one, other in zip(found.beside, found.alone, strict=True)]
    whole_alone, whole_beside = np.concatenate(found.alone), np.concatenate(found.beside)
    return Outcome(
        "neighbour",
        "99th percentile of a quiet tenant's push beside a flooding one, over the same alone",
        [_p99(whole_beside) / _p99(whole_alone)],
        [],
        BUDGET,
        {
            "p99_ms_alone": round(_p99(whole_alone) * 1000, 2),
            "p99_ms_beside": round(_p99(whole_beside) * 1000, 2),
            "median_ms_alone": round(float(np.median(whole_alone)) * 1000, 2),
            "median_ms_beside": round(float(np.median(whole_beside)) * 1000, 2),
            "ratio_by_round": [round(one, 2) for one in runs],
            "pushes": len(whole_alone) + len(whole_beside),
            "p99_ms_in_the_burst": round(_p99(np.concatenate(found.burst)) * 1000, 2),
            "answers_to_the_flood": dict(found.answered),
        },
    )


async def _run(plan: _Plan) -> _Found:
    pushes = frames(Scrapes(SAMPLES, 4))
    alone: list[Seconds] = []
    beside: list[Seconds] = []
    burst: list[Seconds] = []
    answered: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        write_client(folder, FLOODER, NAME)
        command = python("-m", "bench.serve_vendor", "gateway", text, "--log=memory", "--cache=-")
        async with program("gateway", command, folder, measured_core()) as server:
            url = f"https://localhost:{int(await server.line())}/api/v1/write"
            numbers = itertools.count(1)
            async with _session(folder) as session:
                for body in pushes.first:
                    await _push(session, url, pushes, body, next(numbers))
                for number in range(plan.rounds):
                    alone.append(await _quiet(session, url, pushes, numbers, plan.seconds))
                    told = (text, url, str(BURST_SECONDS + plan.seconds + 1))
                    async with program("flood", python("-m", "bench.flood", *told), folder, other_core()) as flood:
                        await flood.line()
                        burst.append(await _quiet(session, url, pushes, numbers, BURST_SECONDS))
                        beside.append(await _quiet(session, url, pushes, numbers, plan.seconds))
                        answered.update(json.loads(await flood.line()))
                    note(f"neighbour {number + 1}: {_p99(alone[-1]):.4f} s alone, {_p99(beside[-1]):.4f} s beside")
    return _Found(alone, beside, burst, answered)


async def _quiet(
    session: aiohttp.ClientSession, url: str, pushes: Pushes, numbers: Iterator[int], seconds: float
) -> Seconds:
    """Seconds that each push of the quiet tenant took."""
    took: list[float] = []
    until = time.monotonic() + seconds
    for body in itertools.cycle(pushes.bodies):
        started = time.monotonic()
        if started >= until:
            break
        await _push(session, url, pushes, body, next(numbers))
        took.append(time.monotonic() - started)
        await asyncio.sleep(max(0.0, EVERY_SECONDS - took[-1]))
    return np.asarray(took)


async def _push(session: aiohttp.ClientSession, url: str, pushes: Pushes, body: bytes, number: int) -> None:
    headers = pushes.headers | PushHeaders(1, number).render()
    async with session.post(url, data=body, headers=headers) as answer:
        if answer.status != 200:
            raise AssertionError(f"the quiet tenant was answered {answer.status}: {await answer.text()}")
        await answer.read()


def _session(folder: Path) -> aiohttp.ClientSession:
    authority = (folder / FILES.ca).read_bytes()
    context = client_context(authority, folder / FILES.client, folder / FILES.client_key)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


def _p99(seconds: Seconds) -> float:
    return float(np.quantile(seconds, 0.99))
