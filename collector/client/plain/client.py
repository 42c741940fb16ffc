"""Connections to servers, each kept for its next request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from collector.client.plain.answer import Wanted
from collector.client.plain.bodies import Bodies
from collector.client.plain.connection import PlainConnection
from collector.client.plain.head import Head, HungUp

_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305: until another address of the server is tried beside the first


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. It may reach the server twice, when the kept connection ends just as it is sent."""

    url: str
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""

    def head(self) -> bytes:
        """Raises ValueError when a field would end its line."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, **self.headers}
        if self.method != "GET":
            fields["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line end in the request's head")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def place(self) -> tuple[str, str, int]:
        """Scheme, host, port. Raises ValueError."""
        parts = urlsplit(self.url)
        return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class PlainClient:
    """Connections to the targets of one job, or to the gateway."""

    def __init__(self) -> None:
        self.bodies = Bodies()
        self._idle: dict[tuple[str, str, int, ssl.SSLContext], PlainConnection] = {}

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        wanted: Wanted,
        tls: ssl.SSLContext,
        server_name: str | None,
    ) -> tuple[Head, bytearray]:
        """A 200 with its body. Give the body back to `bodies`. Raises OSError, ValueError, BadAnswer, NotPlain."""
        return await self._ask(Request(url, headers), wanted, tls, server_name)

    async def ask(self, request: Request, limit: int, tls: ssl.SSLContext) -> tuple[Head, bytearray]:
        """Whatever is answered, cut at `limit` bytes. Raises OSError, ValueError, BadAnswer, NotPlain."""
        return await self._ask(request, Wanted(limit, any_status=True), tls, None)

    async def _ask(
        self, request: Request, wanted: Wanted, tls: ssl.SSLContext, server_name: str | None
    ) -> tuple[Head, bytearray]:
        place, head = request.place(), request.head()
        while True:
            connection = self._idle.pop((*place, tls), None)
            is_new = connection is None or not connection.is_open
            if connection is None or is_new:
                connection = await self._connect(place, tls, server_name)
            try:
                found = await connection.ask(head, request.body, wanted)
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
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        try:
            one = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
        except RuntimeError as error:  # uvloop's for an address of a family that it does not have
            raise OSError(str(error)) from error
        try:
            _, connection = await loop.create_connection(
                lambda: PlainConnection(self.bodies),
                sock=one,
                ssl=tls if scheme == "https" else None,
                server_hostname=(server_name or host) if scheme == "https" else None,
            )
        except BaseException:
            one.close()
            raise
        return connection

    def close(self) -> None:
        """Close all connections. Idempotent."""
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()
