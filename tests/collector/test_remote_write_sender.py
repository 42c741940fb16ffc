"""Receivers of remote write: the rules of the specification, against one that is strict about them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from collector.metrics import CollectorMetrics
from collector.remote_write.settings import RemoteWriteSettings, check_receivers
from collector.remote_write.writer import RemoteWrite
from collector.wire.headers import SAMPLES_WRITTEN
from kernel.clock import Clock, SystemClock, VirtualClock
from kernel.errors import InvalidInput
from kernel.settings import invalid
from tests.collector.proxy import run_proxy
from tests.collector.receiver import Receiver, Request, run_receiver, written
from tests.collector.test_remote_write_requests import Stream, entry
from tests.collector.world import until

QUICK = {"min_backoff": "1ms", "max_backoff": "5ms", "batch_send_deadline": "0s"}


class World:
    """One receiver of a collector, with a stream."""

    def __init__(self, folder: Path, clock: Clock, settings: RemoteWriteSettings) -> None:
        self.metrics = CollectorMetrics()
        self.writer = RemoteWrite([settings], folder, clock, self.metrics)
        self.stream = Stream()

    @property
    def sender(self) -> Any:
        return self.writer.receivers[0].sender

    async def scrape(self, *born: bytes) -> None:
        await self.writer.take(self.stream.table, self.stream.tick(list(born), [], []))

    def lost(self) -> dict[str, float]:
        return values(self.metrics.registry, "byoc_collector_receiver_lost_total", "reason")

    def written(self) -> dict[str, float]:
        return values(self.metrics.registry, "byoc_collector_receiver_written_total", "kind")

    async def drained(self) -> None:
        await until(lambda: self.writer.receivers[0].spool.pending_bytes == 0)


def values(registry: CollectorRegistry, name: str, label: str) -> dict[str, float]:
    samples = [one for family in registry.collect() for one in family.samples if one.name == name]
    return {one.labels[label]: one.value for one in samples if one.value}


@asynccontextmanager
async def writing(folder: Path, url: str, clock: Clock | None = None, **fields: Any) -> AsyncIterator[World]:
    fields["queue_config"] = {**QUICK, **fields.get("queue_config", {})}
    settings = RemoteWriteSettings.model_validate({"url": url, "name": "r", **fields})
    world = World(folder, clock or SystemClock(), settings)
    await world.writer.open()
    task = asyncio.create_task(world.writer.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await world.writer.close()


def refuse(status: int, times: int = 1, retry_after: str | None = None) -> Any:
    left = times
    headers = {"Retry-After": retry_after} if retry_after else {}

    def script(_: Request) -> web.Response | None:
        nonlocal left
        left -= 1
        return web.Response(status=status, text="not now", headers=headers) if left >= 0 else None

    return script


async def test_what_is_scraped_arrives_once_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver()
    async with run_receiver(receiver) as url, writing(tmp_path, url, headers={"X-Team": "db"}) as world:
        await world.scrape(entry("a", 1, x="1"), entry("b", 2))
        await world.scrape()
        await world.drained()
        assert [row[0] for row in receiver.rows()] == ["__name__=a,x=1", "__name__=b"] * 2
        assert receiver.requests[0].types == {"__name__=a,x=1": 1, "__name__=b": 2}
        assert receiver.requests[0].headers["X-Team"] == "db"
        assert "Retry-Attempt" not in receiver.requests[0].headers
        assert (world.written(), world.lost()) == ({"samples": 4}, {})


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_what_may_be_tried_again_is(tmp_path: Path, status: int) -> None:
    receiver = Receiver(refuse(status, times=3))
    async with run_receiver(receiver) as url, writing(tmp_path, url) as world:
        await world.scrape(entry("a"))
        await world.drained()
        assert [one.headers.get("Retry-Attempt") for one in receiver.requests] == [None, "1", "2", "3"]
        assert (len(receiver.rows()), world.lost(), world.sender.last_error) == (1, {}, None)


async def test_retry_after_is_waited_for(tmp_path: Path) -> None:
    clock, receiver = VirtualClock(), Receiver(refuse(503, retry_after="600"))
    async with run_receiver(receiver) as url, writing(tmp_path, url, clock) as world:
        await world.scrape(entry("a"))
        await until(lambda: world.sender.last_error is not None)
        await clock.advance(599)
        assert len(receiver.requests) == 1
        await clock.advance(300)
        await until(lambda: len(receiver.taken) == 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_what_may_not_be_tried_again_is_dropped_and_counted(tmp_path: Path, status: int) -> None:
    receiver = Receiver(refuse(status))
    async with run_receiver(receiver) as url, writing(tmp_path, url) as world:
        await world.scrape(entry("a"), entry("b"))
        await world.drained()
        await world.scrape()
        await world.drained()
        assert (len(receiver.requests), world.lost()) == (2, {f"status_{status}": 2})


async def test_429_is_dropped_where_the_settings_say_so(tmp_path: Path) -> None:
    receiver = Receiver(refuse(429))
    async with run_receiver(receiver) as url, writing(
        tmp_path, url, queue_config={"retry_on_http_429": False}
    ) as world:  # fmt: skip
        await world.scrape(entry("a"))
        await world.drained()
        assert world.lost() == {"status_429": 1}


async def test_the_written_headers_are_believed(tmp_path: Path) -> None:
    def script(read: Request) -> web.Response | None:
        less = written(read, samples=1)
        return web.Response(status=400 if len(receiver.requests) == 1 else 204, headers=less)

    receiver = Receiver(script)
    async with run_receiver(receiver) as url, writing(tmp_path, url) as world:
        await world.scrape(entry("a"), entry("b"), entry("c"))
        await world.drained()
        await world.scrape()
        await world.drained()
        assert (world.written(), world.lost()) == ({"samples": 4}, {"status_400": 1, "not_written": 1})


@pytest.mark.parametrize("how", ["415", "2xx without a word"])
async def test_a_receiver_of_version_1_is_remembered(tmp_path: Path, how: str) -> None:
    def script(read: Request) -> web.Response | None:
        if read.version == 1:
            return None
        return web.Response(status=415) if how == "415" else web.Response(status=204)

    receiver = Receiver(script)
    async with run_receiver(receiver) as url:
        async with writing(tmp_path, url) as world:
            await world.scrape(entry("a", 1, x="1"))
            await world.drained()
            await world.scrape()
            await world.drained()
            assert (world.written(), world.lost()) == ({"samples": 2}, {})
        async with writing(tmp_path, url) as world:
            await world.scrape(entry("c"))
            await world.drained()
    assert [one.version for one in receiver.requests] == [2, 1, 1, 1]
    assert [row[0] for one in receiver.requests[1:] for row in one.rows] == ["__name__=a,x=1"] * 2 + ["__name__=c"]


async def test_version_1_may_be_asked_for(tmp_path: Path) -> None:
    receiver = Receiver()
    async with run_receiver(receiver) as url, writing(
        tmp_path, url, protobuf_message="prometheus.WriteRequest"
    ) as world:  # fmt: skip
        await world.scrape(entry("a"))
        await world.drained()
    assert [one.version for one in receiver.requests] == [1]


async def test_an_outage_loses_nothing_also_over_a_restart(tmp_path: Path) -> None:
    receiver = Receiver(refuse(503, times=10_000))
    async with run_receiver(receiver) as url:
        async with writing(tmp_path, url) as world:
            await world.scrape(entry("a"))
            for _ in range(4):
                await world.scrape()
            await until(lambda: len(receiver.requests) >= 2)
        receiver.script = None
        async with writing(tmp_path, url) as world:
            await world.drained()
    times = [at for _, at, _ in receiver.rows()]
    assert times == sorted(set(times))
    assert len(times) == 5


async def test_requests_are_cut_at_the_limit_and_small_ones_wait_for_each_other(tmp_path: Path) -> None:
    receiver = Receiver(most_series=10)
    queue = {"max_samples_per_send": 10, "batch_send_deadline": "200ms"}
    async with run_receiver(receiver) as url, writing(tmp_path, url, queue_config=queue) as world:
        await world.scrape(*(entry(f"m{number}") for number in range(25)))
        await world.drained()
        assert sorted(one.series for one in receiver.requests) == [5, 10, 10]
        receiver.requests.clear()
        world.stream = Stream()
        await world.scrape(entry("s1"), entry("s2"))
        await world.scrape()
        await world.drained()
        await until(lambda: len(receiver.requests) == 1)
        assert receiver.requests[0].series == 4


async def test_what_waited_too_long_is_dropped_and_counted(tmp_path: Path) -> None:
    clock, receiver = VirtualClock(), Receiver(refuse(503, times=10_000))
    async with run_receiver(receiver) as url, writing(
        tmp_path, url, clock, queue_config={"sample_age_limit": "1m"}
    ) as world:  # fmt: skip
        await world.scrape(entry("old"))
        await until(lambda: world.sender.last_error is not None)
        clock.step_wall(61)
        receiver.script = None
        await clock.advance(1)
        await until(lambda: world.lost() == {"too_old": 1})
        await world.scrape(entry("new"))
        await until(lambda: len(receiver.taken) == 1)


async def test_a_receiver_is_asked_with_its_own_authentication_and_proxy(tmp_path: Path) -> None:
    receiver = Receiver()
    (tmp_path / "password").write_text("hush\n")
    auth = {"username": "u", "password_file": str(tmp_path / "password")}
    async with run_receiver(receiver) as url, run_proxy() as proxy, writing(
        tmp_path, url, basic_auth=auth, proxy_url=proxy.url
    ) as world:  # fmt: skip
        await world.scrape(entry("a"))
        await world.drained()
        assert proxy.asked == [f"POST {url}"]
    assert receiver.requests[0].headers["Authorization"] == "Basic " + b64encode(b"u:hush").decode()


@pytest.mark.parametrize(
    "name",
    [
        "Content-Encoding",
        "content-type",
        "X-Prometheus-Remote-Write-Version",
        "User-Agent",
        "Authorization",
        "Host",
    ],
)
def test_reserved_headers_are_not_overridden(name: str) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError) as refusal:
        RemoteWriteSettings.model_validate({"url": "http://h/", "headers": {name: "hush"}})
    assert "hush" not in str(invalid(refusal.value, "x", RemoteWriteSettings))
    assert isinstance(invalid(refusal.value, "x"), InvalidInput)


def test_two_receivers_do_not_share_a_folder() -> None:
    one = RemoteWriteSettings(url="http://h:1/api?token=hush")
    assert one.folder_name == "h_1_api"
    with pytest.raises(ValueError, match="h_1_api"):
        check_receivers((one, RemoteWriteSettings(url="https://h:1/api?token=other")))


async def test_a_header_that_says_more_than_was_sent_counts_what_was_sent(tmp_path: Path) -> None:
    receiver = Receiver(lambda _: web.Response(status=204, headers={SAMPLES_WRITTEN: "99"}))
    async with run_receiver(receiver) as url, writing(tmp_path, url) as world:
        await world.scrape(entry("a"))
        await world.drained()
        assert (world.written(), world.lost()) == ({"samples": 1}, {})
