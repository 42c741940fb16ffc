"""The plain GET: every way a body may be framed, answers that are none, and connections that end when they like."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from collector.client.plain import BadAnswer, Head, HungUp, NotPlain, PlainClient, Request, Taker, Wanted

BODY = b"".join(b'a{n="%d"} 1\n' % number for number in range(150_000))  # over a megabyte
CONTEXT = ssl.create_default_context()
Answers = Callable[[int], list[bytes]]  # by the number of the request: the pieces to send; an empty one hangs up


@asynccontextmanager
async def server(answers: Answers) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its URL, and the heads that came."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                for piece in answers(len(heads)):
                    if not piece:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/metrics?a=b", heads


async def get(answers: Answers, *, times: int = 1, limit: int = 0) -> tuple[list[bytes], list[bytes]]:
    """The bodies of several requests, and the heads that came."""
    client = PlainClient()
    try:
        async with asyncio.timeout(60), server(answers) as (url, heads):
            bodies = []
            for _ in range(times):
                _, body = await client.get(url, {"Accept": "x"}, Wanted(limit), CONTEXT, None)
                bodies.append(bytes(body))
                client.bodies.give(body)
            client.close()
            return bodies, heads
    finally:
        client.close()


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"


def cut(answer: bytes, size: int) -> list[bytes]:
    return [answer[at : at + size] for at in range(0, len(answer), size)]


@pytest.mark.parametrize("size", [1, 7, 4096, 10**8])
async def test_a_body_of_known_length(size: int) -> None:
    body = BODY if size > 1000 else BODY[:3000]
    bodies, heads = await get(lambda number: cut(sized(body[: len(body) - number]), size), times=3)
    assert bodies == [body[:-1], body[:-2], body[:-3]]
    assert heads[0].startswith(b"GET /metrics?a=b HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(("chunk", "size"), [(1, 1), (5, 3), (4096, 4096), (100_000, 10**8), (4096, 1111)])
@pytest.mark.parametrize("trailer", [b"", b"X-Sum: 1\r\n"])
async def test_a_body_in_chunks(chunk: int, size: int, trailer: bytes) -> None:
    body = BODY if size > 1000 else BODY[:1500]
    bodies, _ = await get(lambda number: cut(chunked(body, chunk, trailer), size), times=2)
    assert bodies == [body, body]


async def test_a_body_up_to_the_end_of_the_connection() -> None:
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    bodies, _ = await get(lambda number: [*cut(head + BODY, 5000), b""], times=2)
    assert bodies == [BODY, BODY]


async def test_an_empty_body_and_one_that_closes() -> None:
    bodies, _ = await get(
        lambda number: [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"], times=2
    )
    assert bodies == [b"", b""]


@pytest.mark.parametrize("answer", [sized(BODY), chunked(BODY, 4096), b"HTTP/1.0 200 OK\r\n\r\n" + BODY])
async def test_a_body_over_the_limit_is_given_up(answer: bytes) -> None:
    with pytest.raises(BadAnswer, match="body_size_limit 1000"):
        await get(lambda number: [answer, b""], limit=1000)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 500 no\r\n\r\n", b"HTTP/1.1 100 go on\r\n\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", b"x" * 200_000,
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000],
)  # fmt: skip
async def test_answers_that_are_none(answer: bytes) -> None:
    with pytest.raises(BadAnswer):
        await get(lambda number: [answer])


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"],
)
async def test_what_a_whole_client_has_to_do(answer: bytes) -> None:
    with pytest.raises(NotPlain):
        await get(lambda number: [answer])


async def test_a_connection_that_went_while_it_was_idle_is_made_anew() -> None:
    bodies, heads = await get(lambda number: [sized(b"a %d\n" % number), b""], times=3)
    assert bodies == [b"a 1\n", b"a 2\n", b"a 3\n"]
    assert len(heads) == 3


@pytest.mark.parametrize("answer", [b"", sized(BODY)[:5000], chunked(BODY, 4096)[:5000]])
async def test_a_target_that_hangs_up_in_its_answer(answer: bytes) -> None:
    with pytest.raises(HungUp):
        await get(lambda number: [answer, b""])


async def test_bodies_use_their_memory_again() -> None:
    client = PlainClient()
    async with server(lambda number: [sized(BODY[: len(BODY) - 9 * number])]) as (url, _):
        first = (await client.get(url, {}, Wanted(), CONTEXT, None))[1]
        client.bodies.give(first)
        second = (await client.get(url, {}, Wanted(), CONTEXT, None))[1]
        client.close()
    assert first is second
    assert second == BODY[:-18]


class Piecewise:
    """Takes large bodies as they come."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.taken = bytearray()

    def take(self, head: Head) -> Taker | None:
        self.heads.append(head)
        self.taken.clear()
        return self if "text/plain" in head.headers.get("content-type", "text/plain") else None

    def add(self, piece: memoryview, /) -> None:
        self.taken += piece


@pytest.mark.parametrize("size", [5_000, 10**8])
@pytest.mark.parametrize(
    "answer",
    [
        sized(BODY),
        sized(BODY) + b"bytes that nobody asked for",
        chunked(BODY, 4096),
        chunked(BODY, 10**7),
        b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
    ],
)
async def test_a_large_body_is_taken_as_it_comes(answer: bytes, size: int) -> None:
    client, takes = PlainClient(), Piecewise()
    wanted = Wanted(len(BODY), taker=takes.take)
    async with asyncio.timeout(60), server(lambda number: [*cut(answer, size), b""]) as (url, _):
        for _ in range(2):
            _, body = await client.get(url, {}, wanted, CONTEXT, None)
            assert (bytes(body), bytes(takes.taken)) == (b"", BODY)
    assert len(takes.heads) == 2
    client.close()


@pytest.mark.parametrize(
    "answer", [sized(BODY[:5000]), chunked(BODY[:5000], 999), sized(BODY).replace(b"plain", b"x")]
)
async def test_a_small_body_is_kept_whole_and_so_is_one_that_is_not_taken(answer: bytes) -> None:
    client, takes = PlainClient(), Piecewise()
    async with asyncio.timeout(60), server(lambda number: [answer]) as (url, _):
        _, body = await client.get(url, {}, Wanted(taker=takes.take), CONTEXT, None)
    assert body in (BODY, BODY[:5000])
    assert not takes.taken
    client.close()


@pytest.mark.parametrize("answer", [sized(BODY), chunked(BODY, 4096), b"HTTP/1.1 200 OK\r\n\r\n" + BODY])
async def test_a_body_that_is_taken_as_it_comes_has_a_limit_too(answer: bytes) -> None:
    client, takes = PlainClient(), Piecewise()
    wanted = Wanted(len(BODY) - 1, taker=takes.take)
    async with asyncio.timeout(60), server(lambda number: [answer, b""]) as (url, _):
        with pytest.raises(BadAnswer, match="longer than body_size_limit"):
            await client.get(url, {}, wanted, CONTEXT, None)
    client.close()


async def asked(answer: bytes, request: Request | None = None, *, limit: int = 1000) -> tuple[int, bytes, bytes]:
    """Status, body, and the head of the last request, of an answer that any status may have; it is asked twice."""
    client = PlainClient()
    async with asyncio.timeout(60), server(lambda number: [answer]) as (url, heads):
        given = request or Request(url, {})
        given = Request(url, given.headers, given.method, given.body)
        for _ in range(2):
            head, body = await client.ask(given, limit, CONTEXT)
        client.close()
    return head.status, bytes(body), heads[-1]


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, b""),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno", 302, b"no"),
        (b"HTTP/1.1 503 busy\r\nContent-Length: 4\r\n\r\nlate", 503, b"late"),
        (sized(BODY), 200, BODY[:1000]),
        (chunked(BODY, 4096), 200, BODY[:1000]),
        (chunked(BODY[:1000], 1000), 200, BODY[:1000]),
        (b"HTTP/1.1 500 no\r\nConnection: close\r\n\r\n" + BODY, 500, BODY[:1000]),
        (sized(b"a")[:-1] + b"bytes that nobody asked for", 200, b"b"),
    ],
)
async def test_any_answer_is_one_where_any_is_asked_for(answer: bytes, status: int, body: bytes) -> None:
    assert (await asked(answer))[:2] == (status, body)


async def test_a_body_is_sent_with_its_length() -> None:
    request = Request("", {"Content-Type": "x"}, "POST")
    _, _, head = await asked(sized(b""), request)
    assert head.startswith(b"POST /metrics?a=b HTTP/1.1\r\n")
    assert b"\r\nContent-Type: x\r\nContent-Length: 0\r\n" in head


async def test_no_header_of_a_request_can_begin_another() -> None:
    with pytest.raises(ValueError, match="line end"):
        await asked(sized(b""), Request("", {"Authorization": "a\r\nHost: b"}))
