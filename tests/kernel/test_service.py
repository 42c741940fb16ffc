"""A service: one failed task ends it, its stop is bounded, and it says when it is ready."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from kernel.errors import Stop
from kernel.health import serve_health
from kernel.service import Service


@pytest.fixture
def service() -> Service:
    return Service("test", CollectorRegistry(), stop_seconds=0.2)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("the cause")


async def return_early() -> None:
    await asyncio.sleep(0)


async def cancel_oneself() -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("work", "why"), [(fail, "the cause"), (return_early, "returned before"), (cancel_oneself, "was cancelled")]
)
async def test_a_task_that_ends_stops_the_service(service: Service, work: Any, why: str) -> None:
    other = service.spawn("other", for_ever())
    service.spawn("broken", work())
    with pytest.raises(Stop, match=f"broken ended.*{why}"):
        await service.run()
    assert other.cancelled()


async def test_a_stop_cancels_in_reverse_and_then_closes_in_reverse(service: Service) -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await for_ever()
        finally:
            ended.append(name)

    async def close(name: str) -> None:
        ended.append(name)

    for name in ("one", "two"):
        service.spawn(name, work(name))
        service.on_close(f"close {name}", lambda name=name: close(f"close {name}"))  # type: ignore[misc]
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service.stop()
    await running
    assert ended == ["two", "one", "close two", "close one"]


async def test_a_task_that_ends_because_of_the_stop_is_no_failure(service: Service) -> None:
    noticed = asyncio.Event()

    async def work() -> None:
        await noticed.wait()

    service.spawn("work", work())
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service.stop()
    noticed.set()
    await running


async def test_what_does_not_stop_is_left_behind(service: Service) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = service.spawn("stubborn", stubborn())
    service.on_close("stuck", for_ever)
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    service.stop()
    await running  # in twice stop_seconds, though neither ever ends
    assert not task.done()
    release.set()
    await task


async def test_one_part_that_fails_to_close_leaves_the_others_to_close(service: Service) -> None:
    closed: list[str] = []

    async def close() -> None:
        closed.append("first")

    service.on_close("first", close)
    service.on_close("second", fail)
    service.stop()
    await service.run()
    assert closed == ["first"]


async def test_a_signal_stops_it(service: Service) -> None:
    service.spawn("work", for_ever())
    running = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_a_name_is_used_once(service: Service) -> None:
    service.spawn("work", for_ever())
    again: Coroutine[Any, Any, None] = for_ever()
    with pytest.raises(ValueError, match="'work' runs"):
        service.spawn("work", again)
    again.close()
    await service.shutdown()


async def test_health_readiness_and_metrics(service: Service) -> None:
    lag = "12 records behind"
    service.checks = {"log": lambda: lag or None, "lake": lambda: None}
    Counter("byoc_test_batches", "Batches.", registry=service.registry).inc(3)
    port = await serve_health(service, "127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as answer:
                return answer.status, await answer.text()

        assert await get("/healthz") == (200, "ok\n")
        assert await get("/readyz") == (503, "log: 12 records behind\n")
        lag = ""
        assert await get("/readyz") == (200, "ready\n")
        status, text = await get("/metrics")
        assert status == 200
        assert "byoc_test_batches_total 3.0" in text
    await service.shutdown()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200), (b"HEAD /healthz HTTP/1.0\r\n\r\n", 200),
     (b"POST /healthz HTTP/1.1\r\n\r\n", 405), (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
     (b"nonsense and more of it here\r\n\r\n", 400), (b"\r\n\r\n", 400),
     (b"GET /healthz HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 200),
     (b"GET /fails HTTP/1.1\r\n\r\n", 500), (b"GET /healthz HTTP/7.1\r\n\r\n", 505)],
)  # fmt: skip
async def test_any_head_has_one_answer_and_its_connection_ends(
    service: Service, request_head: bytes, status: int
) -> None:
    port = await serve_health(service, "127.0.0.1", 0, {"/fails": lambda asked: 1 / 0})  # type: ignore[dict-item, return-value]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_head)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)

    await service.shutdown()


async def test_a_head_without_an_end_is_cut_off(service: Service) -> None:
    port = await serve_health(service, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 10_000)
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    await service.shutdown()


async def test_who_connects_and_says_nothing_does_not_hold_up_the_stop(service: Service) -> None:
    port = await serve_health(service, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await service.shutdown()
    writer.close()
