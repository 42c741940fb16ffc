"""Samples that one core of the gateway takes over mutual TLS, from the handshake to the log, in each protocol.

Bodies are made before the clock starts and sent over kept-alive connections, each once, with headers of its own;
what is divided is the gateway's processor time. The log is in memory. Frames are the figure; remote write 2.0 must
hold its own budget too.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench.identity import FILES, write_identity
from bench.machine import cpu_seconds, measured_core, note, other_core, pinned
from bench.outcome import Budget, Outcome
from bench.process import program, python
from bench.pushes import METRICS_PATH, Pushes, Scrapes, frames, fresh_rw2, otlp, rw1, rw2
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders, PushLane
from kernel.identity import client_context
from metering.gateway.settings import TenantLimits

LANES = (PushLane.BILLING, PushLane.BULK)  # a connection each, as a collector has
ROOMY_CACHE = 2**30
DEFAULT_CACHE = TenantLimits().series_cache_bytes
BUDGET = Budget(4e6, is_at_most=False)
RW2_BUDGET = 1e6


def measure(*, quick: bool) -> Outcome:
    """Samples of a second of one core's processor time."""
    few, many, times = (30_000, 30_000, 1) if quick else (100_000, 100_000, 3)
    small = frames(Scrapes(10_000, 800 if quick else 4_000))
    beside = (
        frames(Scrapes(many, 100 if quick else 500)),
        rw2(Scrapes(few, 40 if quick else 60)),
        fresh_rw2(Scrapes(few, 12 if quick else 24)),
        rw1(Scrapes(few, 40 if quick else 60)),
        otlp(Scrapes(few, 20 if quick else 30)),
    )
    runs = [samples_of_a_core(small) for _ in range(times)]
    found = {one.name: statistics.median(samples_of_a_core(one) for _ in range(times)) for one in beside}
    large, second, first = beside[0], beside[1], beside[3]
    default: dict[str, float] = {}
    if not quick:
        default = {f"{one.name}, default cache": samples_of_a_core(one, DEFAULT_CACHE) for one in (second, first)}
    return Outcome(
        "gateway",
        "samples per second of one core, frames of 10,000 samples",
        runs,
        [],
        BUDGET,
        {
            "series": many,
            "samples_per_second": {name: round(figure) for name, figure in (found | default).items()},
            "bytes_per_sample": {one.name: round(one.bytes_per_sample, 2) for one in (small, *beside)},
            "remote_write_2_budget": RW2_BUDGET,
        },
        extra_holds=found[large.name] >= BUDGET.limit and found[second.name] >= RW2_BUDGET,
    )


def samples_of_a_core(pushes: Pushes, cache_bytes: int = ROOMY_CACHE) -> float:
    """Samples that a gateway takes in a second of processor time."""
    return asyncio.run(_run(pushes, cache_bytes))


async def _run(pushes: Pushes, cache_bytes: int) -> float:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text, pinned(other_core()):
        folder = Path(text)
        write_identity(folder)
        command = python("-m", "bench.serve_vendor", "gateway", text, "--log=memory", f"--cache={cache_bytes}")
        async with program("gateway", command, folder, measured_core()) as server, AsyncExitStack() as stack:
            url = f"https://localhost:{int(await server.line())}"
            lanes = [_Lane(await stack.enter_async_context(_session(folder)), url, lane) for lane in LANES]
            for lane in lanes:  # every series once: their labels are checked and remembered
                for body in pushes.first:
                    await lane.push(pushes, body)
            cpu = cpu_seconds(server.pid)
            await asyncio.gather(*(lane.send(pushes) for lane in lanes))
            cpu = cpu_seconds(server.pid) - cpu
    samples = len(LANES) * pushes.samples
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

    async def push(self, pushes: Pushes, body: bytes) -> int:
        """Send one; the samples that were written, 0 for OTLP, which says nothing when it took all."""
        is_otlp = pushes.path == METRICS_PATH
        ours = {} if is_otlp else PushHeaders(1, next(self._numbers), self._lane).render()
        async with self._session.post(self._url + pushes.path, data=body, headers=pushes.headers | ours) as answer:
            text = await answer.text()
            if answer.status != 200 or (is_otlp and text):
                raise AssertionError(f"the gateway answered {answer.status}: {text}")
            return 0 if is_otlp else int(answer.headers[SAMPLES_WRITTEN])

    async def send(self, pushes: Pushes) -> None:
        """Each body once."""
        written = 0
        for body in pushes.bodies:
            written += await self.push(pushes, body)
        if pushes.path != METRICS_PATH and written != pushes.samples:
            raise AssertionError(f"the gateway wrote {written} samples of {pushes.samples}")
