"""A service's own pages over HTTP/1.1: GET and HEAD, one answer a connection, nothing else.

The standard library reads the head. A whole HTTP server is not loaded: it would be a quarter of a small service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from kernel.logs import logger
from kernel.service import Service

MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 64
HEAD_SECONDS = 10.0
SEND_SECONDS = 30.0
_TEXT = "text/plain; charset=utf-8"
_log = logger("health")


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request pages go by."""

    query: Mapping[str, str] = field(default_factory=dict)
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    body: bytes
    content_type: str = _TEXT
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Pages = Mapping[str, Callable[[Asked], Page]]  # by path


def health_pages(service: Service) -> Pages:
    """`/healthz` (the loop turns), `/readyz` (every check passes, else 503; with reasons and notes), `/metrics`."""

    def readyz(_asked: Asked) -> Page:
        lines = "".join(f"{name}: {why}\n" for name, why in service.amiss().items())
        if service.not_ready():
            return Page(lines.encode(), status=503)
        return Page(f"ready\n{lines}".encode())

    return {
        "/healthz": lambda _asked: Page(b"ok\n"),
        "/readyz": readyz,
        "/metrics": lambda _asked: Page(generate_latest(service.registry), CONTENT_TYPE_PLAIN_0_0_4),
    }


async def serve_health(service: Service, host: str, port: int, pages: Pages | None = None) -> int:
    """Serve the health pages and `pages`; returns the port bound (0 asks for a free one). Raises OSError."""
    server = _Server({**health_pages(service), **(pages or {})})
    listening = await asyncio.start_server(server.serve, host, port, limit=MAX_HEAD_BYTES)

    async def close() -> None:
        listening.close()
        await listening.wait_closed()
        await server.close()

    service.on_close("health", close)
    bound: int = listening.sockets[0].getsockname()[1]
    return bound


class _Server:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._open: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head))
            async with asyncio.timeout(SEND_SECONDS):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        request = _Request(head)
        page = self._page(request)
        fields = {
            "Content-Type": page.content_type,
            "Content-Length": str(len(page.body)),
            "Connection": "close",
            **page.headers,
        }
        lines = [f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if request.command == "HEAD" else page.body)

    def _page(self, request: _Request) -> Page:
        if request.refused is not None:
            return Page(b"", status=request.refused)
        if request.command not in ("GET", "HEAD"):
            return Page(b"GET is allowed\n", status=405, headers={"Allow": "GET, HEAD"})
        parts = urlsplit(request.path)
        page = self._pages.get(parts.path)
        if page is None:
            return Page(b"not found\n", status=404)
        try:
            return page(Asked(dict(parse_qsl(parts.query)), request.headers.get("Accept", "")))
        except Exception:
            _log.exception("page_failed", path=parts.path)
            return Page(b"failed; the log says why\n", status=500)

    async def close(self) -> None:
        """End what is still being sent."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


class _Request(BaseHTTPRequestHandler):
    """A head as the standard library reads it; `refused`: the status to answer with when it is none."""

    def __init__(self, head: bytes) -> None:
        self.refused: int | None = None
        self.command, self.path = "", ""
        self.rfile = BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        if not self.parse_request() and self.refused is None:
            self.refused = 400

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.refused = code

    def handle_expect_100(self) -> bool:
        return True
