"""Several real processes on one port: killed in the middle of pushes, they lose nothing that was acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from collector.wire.frames import MEDIA_TYPE, GroupReader, join_blocks
from collector.wire.headers import PushHeaders, PushLane
from collector.wire.receipt import parse_answer
from kernel.clock import SystemClock
from kernel.identity import CertificateAuthority, client_context, new_private_key, render_csr, render_private_key
from kernel.ids import CollectorId
from kernel.log import StoredRecord
from kernel.log.sqlite import SqliteLog
from metering.record import LIVE_TOPIC
from tests.gateway.world import write_credentials
from tests.identity.world import ACME
from tests.wire.frames.world import Target, entry, reader

NOW = SystemClock().now_ms()
SERIES = [entry("up", instance=f"i{number}") for number in range(20)]
WORKERS = 2

pytestmark = pytest.mark.slow


@asynccontextmanager
async def vendor(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, int]]]:
    """`byoc up` with two workers; the process and its endpoints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "console", "--dir", str(folder), "up", "--gateway-port", "0", "--health-port", "0"),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "BYOC_GATEWAY__WORKERS": str(WORKERS)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    endpoints = folder / "endpoints.json"
    try:
        for _ in range(2000):
            if endpoints.exists() or process.returncode is not None:
                break
            await asyncio.sleep(0.03)
        yield process, json.loads(endpoints.read_text())
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


def children(pid: int) -> list[int]:
    """The workers that run now."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in listed if b"gateway-worker" in Path(f"/proc/{one}/cmdline").read_bytes()]


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal."""
    [mask] = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_true():
            return
        await asyncio.sleep(0.03)
    raise AssertionError("did not come true")


class Lane:
    """Pushes one target's scrapes until told to stop, each on a connection of its own, as often as it takes."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        authority = CertificateAuthority.open(folder / "authority", SystemClock())
        key, self.collector = new_private_key(), CollectorId(name)
        issued = authority.issue_client(render_csr(key), ACME, self.collector)
        files = write_credentials(folder / name, issued.certificate_pem, render_private_key(key))
        self.context = client_context(authority.certificate_pem, files.certificate, files.key)
        self.url, self.asked_for_roots = url, 0
        self.acknowledged: list[tuple[bytes, tuple[tuple[str, int, int], ...]]] = []
        self.decoder: GroupReader = reader()[0]

    async def run(self, stop: asyncio.Event) -> None:
        target = Target(keyframe_every=4, now_ms=NOW - 600_000)
        for sequence in range(1, 10_000):
            tick, _ = target.scrape({name: float(sequence) for name in SERIES[sequence % 3 :]})
            body = join_blocks(1, target.encoder.encode(tick, 1))
            await self.deliver(body, sequence)
            self.decoder.read(body)
            if stop.is_set():
                return

    async def deliver(self, body: bytes, sequence: int) -> None:
        """Until it is acknowledged."""
        while True:
            status, text = await self.post(body, PushHeaders(7, sequence, PushLane.BILLING))
            if status == 200:
                receipt = parse_answer(text.encode())[0].content
                self.acknowledged.append((body, receipt.log))
                return
            if status == 409:
                self.asked_for_roots += 1
                for root in self.decoder.roots():
                    await self.post(root, PushHeaders(7, max(1, sequence - 1), part=2**20, resync=True))
            else:
                await asyncio.sleep(0.05)

    async def post(self, body: bytes, push: PushHeaders) -> tuple[int, str]:
        headers = {"Content-Type": MEDIA_TYPE, **push.render()}
        with suppress(aiohttp.ClientError, ConnectionError):
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.context)) as session,
                session.post(self.url, data=body, headers=headers) as response,
            ):
                return response.status, await response.text()
        return 0, ""


async def stored(folder: Path) -> dict[tuple[str, int, int], StoredRecord]:
    log = SqliteLog(folder / "log.sqlite", SystemClock())
    reading = await log.reader("witness", [LIVE_TOPIC], since_ms=0)
    found: dict[tuple[str, int, int], StoredRecord] = {}
    while records := await reading.poll(1000, 0.1):
        found |= {(one.topic, one.partition, one.offset): one for one in records}
    await reading.close()
    await log.close()
    return found


async def test_killed_workers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async with vendor(tmp_path) as (process, endpoints):
        url = f"https://localhost:{endpoints['gateway_port']}/api/v1/write"
        lanes = [Lane(url, tmp_path, f"collector-{number}") for number in range(2)]
        stop = asyncio.Event()
        running = [asyncio.create_task(lane.run(stop)) for lane in lanes]
        for kill in range(3):
            before = sum(len(lane.acknowledged) for lane in lanes)
            await until(lambda: sum(len(lane.acknowledged) for lane in lanes) >= before + 20)  # noqa: B023
            await until(lambda: len(children(process.pid)) > 0)
            alive = children(process.pid)
            os.kill(alive[kill % len(alive)], signal.SIGKILL)
        await until(lambda: len(children(process.pid)) == WORKERS)
        stop.set()
        await asyncio.gather(*running)
        assert await metric_of_each_worker(endpoints["health_port"]) == {"1", "2"}
    records = await stored(tmp_path)
    for lane in lanes:
        for body, log in lane.acknowledged:
            (position,) = log
            assert records[position].value == body
        mine = [one for _, one in sorted(records.items()) if one.key.endswith(lane.collector.encode())]
        decoder, _ = reader()
        seen: set[bytes] = set()
        for record in mine:  # each builds on those before it, whichever worker appended them
            decoder.read(record.value, samples=record.value not in seen)  # of a repeat the state alone, as the lake
            seen.add(record.value)
        assert lane.asked_for_roots <= 3 + 1, "workers know each other's groups; a killed one may leave one unknown"


async def metric_of_each_worker(port: int) -> set[str]:
    """Which workers the page of metrics names."""
    for _ in range(200):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://localhost:{port}/metrics") as response,
        ):
            text = await response.text()
        lines = [line for line in text.splitlines() if line.startswith("byoc_gateway_connections{")]
        found = {line.split('worker="')[1][0] for line in lines}
        if len(found) == WORKERS:
            return found
        await asyncio.sleep(0.1)
    return set()


async def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    async with vendor(tmp_path) as (process, _):
        workers = children(process.pid)
        assert len(workers) == WORKERS
        process.kill()
        await process.wait()
        for _ in range(1000):
            if not any(Path(f"/proc/{pid}").exists() for pid in workers):
                return
            await asyncio.sleep(0.03)
        raise AssertionError("workers outlived their parent")


async def test_a_stop_is_bounded_and_leaves_no_worker(tmp_path: Path) -> None:
    async with vendor(tmp_path) as (process, _):
        workers = children(process.pid)
        await until(lambda: catches(process.pid, signal.SIGTERM))  # it listens before it does
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
