"""A real forward proxy: CONNECT tunnels, and plain GETs with a whole URL. It remembers who asked for what."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ForwardProxy:
    """`asked`: request lines; `credentials`: the Proxy-Authorization of each; `carried`: bytes towards servers."""

    asked: list[str] = field(default_factory=list)
    credentials: list[str | None] = field(default_factory=list)
    carried: int = 0
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *headers = head.split("\r\n")
        method, where, _ = line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in headers)}
        self.asked.append(f"{method} {where}")
        self.credentials.append(fields.get("proxy-authorization"))
        parts = urlsplit(where if "://" in where else f"//{where}")
        to_reader, to_writer = await asyncio.open_connection(parts.hostname, parts.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            kept = [one for one in headers if not one.lower().startswith(("proxy-", "connection:")) and one]
            request = [f"{method} {parts.path or '/'} HTTP/1.1", *kept, "Connection: close", "", ""]
            to_writer.write("\r\n".join(request).encode("latin-1"))
        try:
            await asyncio.gather(self._carry(reader, to_writer, count=True), self._carry(to_reader, writer))
        finally:
            for one in (writer, to_writer):
                one.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, count: bool = False
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                self.carried += len(chunk) * count
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def run_proxy(context: ssl.SSLContext | None = None) -> AsyncIterator[ForwardProxy]:
    """A proxy on a free port, behind TLS with a `context`; its tunnels end with it."""
    proxy, tunnels = ForwardProxy(scheme="https" if context else "http"), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.add(asyncio.ensure_future(proxy.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for tunnel in tunnels:
            tunnel.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)
