"""A GET by HTTP/1.1 that costs next to nothing: the socket writes straight into the body, which is used again.

For the plain case: one request at a time on a connection that is kept. What it does not do (redirects, packed
bodies) it says by `NotPlain`, and a whole HTTP client does it instead.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from collector.errors import ScrapeFailed

MAX_HEAD_BYTES = 64 * 1024
_STAGE_BYTES = 16 * 1024
_LARGE_STAGE_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_BYTES = 1 << 20  # bodies below are made anew each time


class NotPlain(Exception):
    """The answer needs a whole HTTP client."""


class HungUp(OSError):
    """The connection ended before the answer did. `is_clean`: before its first byte, so it may be tried anew."""

    def __init__(self, *, is_clean: bool) -> None:
        super().__init__("the target hung up" if is_clean else "the target hung up within its answer")
        self.is_clean = is_clean


@dataclass(slots=True)
class Head:
    """Status and headers; names in lower case."""

    status: int
    headers: Mapping[str, str]
    is_kept: bool

    @property
    def length(self) -> int | None:
        """Of the body; None: chunked, or up to the end of the connection. Raises ScrapeFailed."""
        text = self.headers.get("content-length")
        if text is None or self.is_chunked:
            return None
        if not (text.isascii() and text.isdigit()):
            raise ScrapeFailed(f"Content-Length {text[:40]!r}: a number is expected")
        return int(text)

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()


@dataclass(slots=True)
class Bodies:
    """Memory of large bodies that are done with, for the next ones."""

    free: list[bytearray] = field(default_factory=list)

    def take(self, size: int) -> bytearray:
        """A body of this length; what is in it is of no meaning."""
        if size < _KEEP_BYTES or not self.free:
            return bytearray(size)
        body = self.free.pop()
        try:
            if len(body) > size:
                del body[size:]
            else:
                body += bytes(size - len(body))
        except BufferError:  # someone looks into it still
            return bytearray(size)
        return body

    def give(self, body: bytearray) -> None:
        """No one uses this body any more."""
        if len(body) >= _KEEP_BYTES and len(self.free) < 2:
            self.free.append(body)


class PlainConnection(asyncio.BufferedProtocol):
    """One connection to one target."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._transport: asyncio.Transport | None = None
        self._stage = bytearray(_STAGE_BYTES)
        self._last_size = _STAGE_BYTES
        self._staged = 0  # bytes of the stage that are not read yet
        self._head: Head | None = None
        self._body = bytearray()
        self._got = 0
        self._chunk = 0  # what is left of a chunk, its line end included
        self._limit = 0
        self._done: asyncio.Future[tuple[Head, bytearray]] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def get(self, request: bytes, limit: int) -> tuple[Head, bytearray]:
        """The answer to a request; the body of a 200 alone is read, up to `limit` bytes (0: any).

        Raises HungUp, ScrapeFailed, NotPlain.
        """
        if self._transport is None:
            raise HungUp(is_clean=True)
        self._head, self._got, self._chunk, self._limit, self._staged = None, 0, 0, limit, 0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._done
        except BaseException:
            self.close()
            raise
        finally:
            self._done, self._body = None, bytearray()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        done = self._done
        if done is None or done.done():
            return
        head = self._head
        if head is not None and error is None and head.length is None and not head.is_chunked:
            self._finish()
        else:
            done.set_exception(HungUp(is_clean=head is None and self._staged == 0))

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._is_direct():
            return memoryview(self._body)[self._got :]
        size = len(self._stage)
        if self._staged == size or (size < _LARGE_STAGE_BYTES and self._got > _KEEP_BYTES):
            # A new one: whoever was given a view of the old one may hold it still.
            self._stage = self._stage[: self._staged] + bytes(max(2 * size, _LARGE_STAGE_BYTES) - self._staged)
        return memoryview(self._stage)[self._staged :]

    def buffer_updated(self, nbytes: int) -> None:
        done = self._done
        if done is None or done.done():
            self.close()  # bytes that no one asked for
            return
        try:
            if self._is_direct():
                self._got += nbytes
            else:
                self._staged += nbytes
                self._read_stage()
            head = self._head
            if head is not None and head.length is not None and self._got >= head.length:
                self._finish()
        except (ScrapeFailed, NotPlain) as error:
            done.set_exception(error)
            self.close()

    # -- reading ---------------------------------------------------------------------------------------------

    def _is_direct(self) -> bool:
        """The body's length is known, so the socket writes into it."""
        return self._head is not None and self._head.length is not None and self._got < len(self._body)

    def _read_stage(self) -> None:
        if self._head is None:
            end = self._stage.find(b"\r\n\r\n", 0, self._staged)
            if end < 0:
                if self._staged > MAX_HEAD_BYTES:
                    raise ScrapeFailed(f"a head of more than {MAX_HEAD_BYTES} bytes")
                return
            self._begin_body(_parse_head(bytes(self._stage[:end])))
            self._drop(end + 4)
        head = self._head
        if head is None or self._done is None or self._done.done():
            return
        if head.is_chunked:
            self._read_chunks()
        else:
            self._append(self._staged)
            self._staged = 0

    def _begin_body(self, head: Head) -> None:
        if 100 <= head.status < 200:
            raise ScrapeFailed(f"HTTP status {head.status}; 200 is expected")
        self._head = head
        if head.status in _REDIRECTS or head.headers.get("content-encoding", "identity") != "identity":
            raise NotPlain
        if head.status != 200:
            raise ScrapeFailed(f"HTTP status {head.status}; 200 is expected")
        length = head.length
        self._check_limit(length or 0)
        self._body = self._bodies.take(self._last_size if length is None else length)
        if length == 0:
            self._finish()

    def _read_chunks(self) -> None:
        stage, at, end = self._stage, 0, self._staged
        while at < end:
            if self._chunk > 2:
                some = min(self._chunk - 2, end - at)
                self._append(some, at)
                self._chunk -= some
                at += some
            elif self._chunk:  # the line end behind a chunk
                some = min(self._chunk, end - at)
                self._chunk -= some
                at += some
            else:
                line = stage.find(b"\r\n", at, end)
                if line < 0:
                    if end - at > 1024:
                        raise ScrapeFailed("a chunk without a length")
                    break
                size = _parse_size(bytes(stage[at:line]))
                if size == 0:
                    self._end_chunks(at, line)
                    return
                at, self._chunk = line + 2, size + 2
        self._drop(at)

    def _end_chunks(self, at: int, line: int) -> None:
        """Behind the last chunk: trailers, which mean nothing here, and an empty line."""
        if self._stage.find(b"\r\n\r\n", line, self._staged) >= 0:
            self._finish()
        elif self._staged - line > MAX_HEAD_BYTES:
            raise ScrapeFailed(f"trailers of more than {MAX_HEAD_BYTES} bytes")
        else:
            self._drop(at)

    def _append(self, size: int, at: int = 0) -> None:
        body, got = self._body, self._got
        self._check_limit(got + size)
        if got + size > len(body):
            body += bytes(max(got + size, 2 * len(body)) - len(body))
        body[got : got + size] = memoryview(self._stage)[at : at + size]
        self._got = got + size

    def _check_limit(self, size: int) -> None:
        if self._limit and size > self._limit:
            raise ScrapeFailed(f"the body is longer than body_size_limit {self._limit} bytes")

    def _drop(self, size: int) -> None:
        rest = self._staged - size
        if rest:
            self._stage[:rest] = self._stage[size : self._staged]
        self._staged = rest

    def _finish(self) -> None:
        assert self._done is not None
        assert self._head is not None
        del self._body[self._got :]
        self._last_size = max(self._got, _STAGE_BYTES)
        if not self._head.is_kept:
            self.close()
        self._done.set_result((self._head, self._body))


class PlainClient:
    """Connections to the targets of one job, each kept for its next scrape."""

    def __init__(self) -> None:
        self.bodies = Bodies()
        self._idle: dict[tuple[str, str, int, ssl.SSLContext], PlainConnection] = {}

    async def get(
        self, url: str, headers: Mapping[str, str], limit: int, tls: ssl.SSLContext, server_name: str | None
    ) -> tuple[Head, bytearray]:
        """A 200 with its body. Give the body back to `bodies`. Raises OSError, ScrapeFailed, NotPlain."""
        parts = urlsplit(url)
        place = (parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **headers}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        request = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line end in the request's head")
        while True:
            connection = self._idle.pop((*place, tls), None)
            is_new = connection is None or not connection.is_open
            if connection is None or is_new:
                connection = await self._connect(place, tls, server_name)
            try:
                found = await connection.get(request, limit)
            except HungUp as error:
                if error.is_clean and not is_new:  # it went while it was idle
                    continue
                raise
            if connection.is_open:
                self._idle[*place, tls] = connection
            return found

    async def _connect(
        self, place: tuple[str, str, int], tls: ssl.SSLContext, server_name: str | None
    ) -> PlainConnection:
        scheme, host, port = place
        loop = asyncio.get_running_loop()
        if scheme == "https":
            _, connection = await loop.create_connection(
                lambda: PlainConnection(self.bodies), host, port, ssl=tls, server_hostname=server_name or host
            )
        else:
            _, connection = await loop.create_connection(lambda: PlainConnection(self.bodies), host, port)
        return connection

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()


def _parse_head(text: bytes) -> Head:
    """Raises ScrapeFailed."""
    first, *lines = text.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit()):
        raise ScrapeFailed(f"no answer of HTTP/1.1: {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ScrapeFailed(f"no header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    connection = headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close").lower()
    return Head(int(code), headers, "close" not in connection)


def _parse_size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    try:
        if not text or text.strip(b"0123456789abcdefABCDEF"):
            raise ValueError
        return int(text, 16)
    except ValueError:
        raise ScrapeFailed(f"a chunk of length {line[:40]!r}") from None
