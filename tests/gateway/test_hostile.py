"""What no honest sender does: refused with the right status, counted, not written into our own logs each time."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from collector.wire.headers import CONTENT_TYPE_RW2
from kernel.clock import SystemClock
from metering.gateway.settings import BodyLimits, GatewaySettings, TenantLimits
from tests.gateway.clocks import SkewedClock
from tests.gateway.world import GatewayWorld, Sender, gateway_world
from tests.identity.world import OTHER

NOW = SystemClock().now_ms()
UP = (("__name__", "up"),)
ROWS = [(UP, [(NOW, 1.0)])]
HEAD = b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\n"
RW2 = f"Content-Type: {CONTENT_TYPE_RW2}\r\nContent-Encoding: snappy\r\n".encode()
END_SECONDS = 60


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[GatewayWorld]:
    settings = GatewaySettings(
        keepalive_seconds=1.0,
        handshake_seconds=1.0,
        body=BodyLimits(read_seconds=0.5),
        tenant=TenantLimits(connections=3),
    )
    async with gateway_world(tmp_path, settings) as world:
        yield world


async def connect(
    world: GatewayWorld, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = context or world.context(world.credentials())
    return await asyncio.open_connection("localhost", world.server.port, ssl=context)


async def answer_to(world: GatewayWorld, *pieces: bytes) -> bytes:
    """All that comes back until the gateway closes the connection, or falls silent after an answer."""
    reader, writer = await connect(world)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), END_SECONDS)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def until(world: GatewayWorld, name: str, value: float) -> None:
    for _ in range(6000):
        if world.metric(name) == value:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is {world.metric(name)}, not {value}")


async def test_a_gzip_bomb_is_not_unpacked_by_anyone(world: GatewayWorld, sender: Sender) -> None:
    """The framework would do it by itself, before our code sees a byte."""
    bomb = gzip.compress(bytes(64 * 2**20))
    answer = await sender.post(
        "/api/v1/write", bomb, {"Content-Type": CONTENT_TYPE_RW2, "Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.written) == (415, ("0", "0", "0"))
    assert world.metric("byoc_gateway_pushes_total", outcome="unsupported") == 1
    enrolment = await sender.post("/enrol", bomb, {"Content-Encoding": "gzip"})
    assert enrolment.status in (400, 413)


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * 100_000 + b"\r\n",
        b"".join(b"X-%d: 1\r\n" % number for number in range(10_000)),
        b"X-Nul: a\x00b\r\n",
        b"X-Bare: a\rb\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
    ids=["long", "many", "nul", "bare-cr", "smuggled", "two-lengths", "negative", "coded"],
)
async def test_a_head_that_is_none_is_refused_and_the_connection_ends(
    strict: GatewayWorld, head: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = await answer_to(strict, HEAD + RW2 + head, b"Connection: close\r\n\r\n")
    assert answered.split(b"\r\n", 1)[0].split(b" ", 1)[-1][:3] in (b"400", b"408", b""), answered[:200]
    assert await strict.stored() == []
    assert "Traceback" not in capsys.readouterr().out


async def test_bytes_that_are_no_text_in_a_header_of_ours_are_refused(world: GatewayWorld) -> None:
    ours = b"X-Byoc-Epoch: \xff\xfe\r\nX-Byoc-Sequence: 1\r\nX-Byoc-Part: 0\r\nX-Byoc-Lane: billing\r\n"
    answered = await answer_to(world, HEAD + RW2 + ours + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    assert b" 400 " in answered.split(b"\r\n", 1)[0]


async def test_a_head_that_drips_ends_with_the_connection(strict: GatewayWorld) -> None:
    """Before the first request it counts as silence, afterwards as idleness; each byte buys no time."""
    watch = asyncio.create_task(strict.server.watch())
    for first in (b"", HEAD + b"Content-Length: 0\r\n\r\n"):
        reader, writer = await connect(strict)
        writer.write(first + HEAD)

        async def drip(writer: asyncio.StreamWriter = writer) -> None:
            while not writer.is_closing():
                writer.write(b"X")
                await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), END_SECONDS)
        dripping.cancel()
        writer.close()
    watch.cancel()


async def test_half_a_connection_holds_no_place(strict: GatewayWorld) -> None:
    """Who says how much will come, and closes his side, is not waited for."""
    _, writer = await connect(strict)
    writer.write(HEAD + RW2 + b"Content-Length: 1000\r\n\r\n" + b"x" * 10)
    await writer.drain()
    await until(strict, "byoc_gateway_pushes_in_flight", 1)
    raw: socket.socket = writer.get_extra_info("socket")
    raw.shutdown(socket.SHUT_WR)
    await until(strict, "byoc_gateway_pushes_in_flight", 0)
    assert await strict.stored() == []
    writer.transport.abort()


async def test_a_body_in_tiny_chunks_is_refused_and_the_connection_ends(world: GatewayWorld) -> None:
    """Each costs as much as a large one: 8 MiB by single bytes are three seconds of a core."""
    head = HEAD + RW2 + b"Transfer-Encoding: chunked\r\n\r\n"
    answered = await answer_to(world, head + b"1\r\nx\r\n" * 5000)
    assert b" 400 " in answered.split(b"\r\n", 1)[0]
    assert b"HTTP chunks of 1 bytes on average" in answered
    assert world.metric("byoc_gateway_pushes_in_flight") == 0


async def test_requests_of_a_tenant_queue_and_those_of_others_do_not(tmp_path: Path) -> None:
    """Whatever is in them: a request that is refused costs the others as much time as one that is not."""
    clock = SkewedClock()
    async with (
        gateway_world(tmp_path, GatewaySettings(tenant=TenantLimits(requests_per_second=2)), clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
        Sender(world, world.context(world.credentials(OTHER))) as other,
    ):
        answers = await asyncio.gather(*(sender.get("/nowhere") for _ in range(7)))
        assert [answer.status for answer in answers] == [404] * 7
        assert clock.slept == pytest.approx([0.5, 1.0, 1.5], abs=0.3), "four at once"
        assert (await other.write(ROWS)).status == 204
        assert len(clock.slept) == 3


async def test_pipelined_requests_are_answered_in_turn(world: GatewayWorld) -> None:
    one = HEAD + b"Content-Type: text/plain\r\nContent-Length: 0\r\n"
    answered = await answer_to(world, (one + b"\r\n") * 300 + one + b"Connection: close\r\n\r\n")
    assert answered.count(b"HTTP/1.1 415 ") == 301


async def test_a_tenant_has_so_many_connections_and_others_have_theirs(strict: GatewayWorld) -> None:
    context = strict.context(strict.credentials())
    open_ones = []
    for number in range(4):
        reader, writer = await connect(strict, context)
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), END_SECONDS)
        assert (b" 415 " if number < 3 else b" 503 ") in line
        open_ones.append(writer)
    assert strict.metric("byoc_gateway_turned_away_total", reason="too_many_connections") == 1
    async with Sender(strict, strict.context(strict.credentials(OTHER))) as other:
        assert (await other.write(ROWS)).status == 204
    for writer in open_ones:
        writer.close()
    for _ in range(100):  # a place is free again once its connection is closed
        reader, writer = await connect(strict, context)
        writer.write(HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), END_SECONDS)
        writer.close()
        if b" 415 " in line:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no place became free")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("version", [1, 2])
async def test_a_million_labels_cost_a_refusal(world: GatewayWorld, sender: Sender, version: int) -> None:
    labels = (("__name__", "up"), *((f"l{number}", "x") for number in range(1_000_000)))
    answer = await sender.write([(labels, [(NOW, 1.0)])], version=version)
    assert answer.status in (400, 413)
    assert await world.stored() == []


async def test_the_same_mistake_is_logged_once_in_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SkewedClock()
    async with gateway_world(tmp_path, clock=clock) as world:
        async with Sender(world, world.context(world.credentials())) as sender:
            for _ in range(5):
                assert (await sender.post("/api/v1/write", b"", {"Content-Type": "text/plain"})).status == 415
            assert (await sender.post("/api/v1/write", b"no snappy", {"Content-Type": CONTENT_TYPE_RW2})).status
        async with Sender(world, world.context()) as stranger:
            for _ in range(5):
                assert (await stranger.post("/api/v1/write", b"", {})).status == 403
        assert world.metric("byoc_gateway_pushes_total", outcome="unsupported") == 6
    said = capsys.readouterr().out
    assert said.count("push_refused") == 1
    assert said.count("turned_away") == 1


async def test_who_is_over_a_limit_waits_for_the_refusal_and_takes_nobodys_turn(tmp_path: Path) -> None:
    """Who floods heeds no Retry-After; answered at once it would come again at once."""
    clock = SkewedClock()
    settings = GatewaySettings(concurrent_pushes=1, tenant=TenantLimits(samples_per_second=0.1, burst_samples=1))
    async with (
        gateway_world(tmp_path, settings, clock) as world,
        Sender(world, world.context(world.credentials())) as sender,
        Sender(world, world.context(world.credentials(OTHER))) as other,
    ):
        assert (await sender.write(ROWS)).status == 204
        held = asyncio.create_task(sender.write(ROWS))
        for _ in range(6000):
            if clock.slept:
                break
            await asyncio.sleep(0.005)
        assert clock.slept == [1.0]
        assert (await other.write(ROWS)).status == 204
        assert (await held).status == 429
