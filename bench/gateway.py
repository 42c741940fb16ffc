"""Samples that one core of the gateway takes over mutual TLS, from the handshake to the log, in each protocol.

Bodies are made before the clock starts and sent over kept-alive connections, each push with headers of its own;
what is divided is the gateway's processor time. The log is in memory. Frames are the figure; remote write 2.0 must
hold its own budget too.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.identity import FILES, write_identity
from bench.machine import cpu_seconds, measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import program, python
from bench.pushes import METRICS_PATH, Pushes, Scrapes, frames, otlp, rw1, rw2
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders, PushLane
from kernel.identity import client_context
from metering.gateway.settings import TenantLimits

LANES = (PushLane.BILLING, PushLane.BULK)  # a connection each, as a collector has
ROOMY_CACHE_BYTES = 2**30
DEFAULT_CACHE_BYTES = TenantLimits().series_cache_bytes
BUDGET = Budget(4e6, is_at_most=False)
RW2_BUDGET = 1e6


@dataclass(frozen=True)
class _Load:
    pushes: Pushes
    seconds: float
    cache_bytes: int = ROOMY_CACHE_BYTES


def measure(*, quick: bool) -> Outcome:
    """Samples of a second of one core's processor time."""
    seconds, times = (1.5, 1) if quick else (8.0, 3)
    many, few = Scrapes(30_000, 2) if quick else Scrapes(100_000, 4), Scrapes(10_000, 3)

    def run(pushes: Pushes, cache_bytes: int = ROOMY_CACHE_BYTES) -> list[float]:
        return [asyncio.run(_run(_Load(pushes, seconds, cache_bytes))) for _ in range(times)]

    small, large = frames(few), frames(many)
    second, first, third = rw2(many), rw1(many), otlp(many)
    every = (small, large, second, first, third)
    runs = run(small)
    beside = {pushes.name: statistics.median(run(pushes)) for pushes in every[1:]}
    default: dict[str, float] = {}
    if not quick:
        default = {f"{one.name}, default cache": run(one, DEFAULT_CACHE_BYTES)[0] for one in (second, first)}
    return Outcome(
        "gateway",
        "samples per second of one core, frames of 10,000 samples",
        runs,
        [],
        BUDGET,
        {
            "series": many.series,
            "samples_per_second": {name: round(figure) for name, figure in (beside | default).items()},
            "bytes_per_sample": {
                one.name: round(one.bytes_per_sample, 2) for one in (small, large, second, first, third)
            },
            "remote_write_2_budget": RW2_BUDGET,
        },
        extra_holds=beside[large.name] >= BUDGET.limit and beside[second.name] >= RW2_BUDGET,
    )


async def _run(load: _Load) -> float:
    pushes = load.pushes
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        command = python("-m", "bench.serve_gateway", text, str(load.cache_bytes))
        async with program("gateway", command, folder, measured_core()) as server, AsyncExitStack() as stack:
            url = f"https://localhost:{int(await server.line())}"
            lanes = [_Lane(await stack.enter_async_context(_session(folder)), url, lane) for lane in LANES]
            for lane in lanes:  # every series once: their labels are checked and remembered
                for body in pushes.first:
                    await lane.push(pushes, body)
            cpu, until = cpu_seconds(server.pid), time.monotonic() + load.seconds
            sent = await asyncio.gather(*(lane.send(pushes, until) for lane in lanes))
            cpu = cpu_seconds(server.pid) - cpu
    samples = sum(sent) * pushes.samples
    note(
        f"gateway, {pushes.name}: {samples} samples in {cpu:.2f} s of processor time, {samples / cpu:,.0f} a second"
    )
    return samples / cpu


def _session(folder: Path) -> aiohttp.ClientSession:
    authority = (folder / FILES.ca).read_bytes()
    context = client_context(authority, folder / FILES.client, folder / FILES.client_key)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


class _Lane:
    """One connection, which sends the pushes of one lane."""

    def __init__(self, session: aiohttp.ClientSession, url: str, lane: PushLane) -> None:
        self._session, self._url, self._lane = session, url, lane
        self._numbers = itertools.count(1)

    async def push(self, pushes: Pushes, body: bytes) -> str:
        """Send one; the samples that were written. OTLP says nothing when that is all."""
        ours = {} if pushes.path == METRICS_PATH else PushHeaders(1, next(self._numbers), self._lane).render()
        async with self._session.post(self._url + pushes.path, data=body, headers=pushes.headers | ours) as answer:
            text = await answer.text()
            if answer.status != 200 or (pushes.path == METRICS_PATH and text):
                raise AssertionError(f"the gateway answered {answer.status}: {text}")
            return answer.headers.get(SAMPLES_WRITTEN, str(pushes.samples))

    async def send(self, pushes: Pushes, until: float) -> int:
        """Bodies in a circle until then; how many."""
        for sent, body in enumerate(itertools.cycle(pushes.bodies), 1):
            if await self.push(pushes, body) != str(pushes.samples):
                raise AssertionError("the gateway wrote another number of samples")
            if time.monotonic() >= until:
                return sent
        raise AssertionError("a circle does not end")
