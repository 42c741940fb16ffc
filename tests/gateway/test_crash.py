"""kill -9 between the check, the append and the answer: what was answered is there, what was not may come again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from collector.wire.headers import CONTENT_TYPE_RW2, PushHeaders
from collector.wire.snappy import compress
from kernel.clock import SystemClock
from kernel.identity import client_context, new_private_key, render_csr, render_private_key
from kernel.log.sqlite import SqliteLog
from metering.record import LIVE_TOPIC, Sequence, decode_batch, decode_header
from tests.gateway.messages import encode_rw2
from tests.gateway.world import write_credentials
from tests.identity.world import ACME, COLLECTOR, make_world

NOW = SystemClock().now_ms()
BODY = compress(encode_rw2([((("__name__", "up"),), [(NOW, 1.0)])]))
HEADERS = {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "snappy", **PushHeaders(7, 1).render()}


@asynccontextmanager
async def gateway_process(folder: Path, crash_at: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    (folder / "port").unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.serve", str(folder)),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "BYOC_CRASH_AT": crash_at},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        for _ in range(1000):
            if (folder / "port").exists() or process.returncode is not None:
                break
            await asyncio.sleep(0.03)
        yield process, int((folder / "port").read_text())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "stored_by_the_first"), [("gateway.checked", 0), ("gateway.appended", 1)])
async def test_a_push_that_was_not_answered_comes_again_under_the_same_sequence(
    tmp_path: Path, place: str, stored_by_the_first: int
) -> None:
    world = make_world(tmp_path)
    key = new_private_key()
    issued = world.tokens.redeem(world.tokens.create(ACME, COLLECTOR), render_csr(key), world.authority)
    files = write_credentials(tmp_path / "client", issued.certificate_pem, render_private_key(key))
    world.database.close()
    context = client_context(world.authority.certificate_pem, files.certificate, files.key)

    async def push(port: int) -> int:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            url = f"https://localhost:{port}/api/v1/write"
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                return response.status

    async with gateway_process(tmp_path, place) as (process, port):
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await push(port)
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    assert len(await stored(tmp_path)) == stored_by_the_first
    async with gateway_process(tmp_path, "") as (_, port):
        assert await push(port) == 200
    assert await stored(tmp_path) == [(Sequence(7, 1, 0), [NOW], [1.0])] * (stored_by_the_first + 1)


async def stored(folder: Path) -> list[tuple[Sequence | None, list[int], list[float]]]:
    log = SqliteLog(folder / "log.sqlite", SystemClock())
    reader = await log.reader("witness", [LIVE_TOPIC], since_ms=0)
    records = await reader.poll(100, 0.1)
    await reader.close()
    await log.close()
    batches = [(decode_header(record).sequence, decode_batch(record.value)) for record in records]
    return [(sequence, batch.timestamps_ms.tolist(), batch.values.tolist()) for sequence, batch in batches]
