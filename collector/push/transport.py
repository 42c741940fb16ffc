"""One POST to the gateway over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

import aiohttp

from collector.errors import IdentityRefused, ProxyUnusable
from collector.push.answer import Answer
from collector.push.proxy import proxy_arguments
from collector.push.version import WireProtocol
from collector.settings import GatewaySettings
from collector.wire.gaps import CONTENT_TYPE_GAPS
from collector.wire.headers import (
    CONTENT_TYPE_FRAMES,
    CONTENT_TYPE_RW1,
    CONTENT_TYPE_RW2,
    VERSION_HEADER,
    VERSION_RW1,
    VERSION_RW2,
    PushHeaders,
)
from kernel.errors import InvalidInput, truncate

USER_AGENT = "byoc-collector"
MAX_ANSWER_BYTES = 64 * 1024
PATH = "/api/v1/write"
_PROTOCOL_HEADERS = {
    WireProtocol.GAPS: {"Content-Type": CONTENT_TYPE_GAPS},
    WireProtocol.FRAMES: {"Content-Type": CONTENT_TYPE_FRAMES},
    WireProtocol.RW2: {
        "Content-Encoding": "snappy",
        "Content-Type": CONTENT_TYPE_RW2,
        VERSION_HEADER: VERSION_RW2,
    },
    WireProtocol.RW1: {
        "Content-Encoding": "snappy",
        "Content-Type": CONTENT_TYPE_RW1,
        VERSION_HEADER: VERSION_RW1,
    },
}


@dataclass(frozen=True, slots=True)
class Push:
    """A body as it is sent, and which push it is."""

    headers: PushHeaders
    body: bytes
    protocol: WireProtocol = WireProtocol.RW2


class Sender(Protocol):
    """Sends a push and returns what was answered; never raises for the network or the other side."""

    async def send(self, push: Push) -> Answer:
        """The answer; status 0 with the reason when there was none."""


class HttpsSender:
    """The real one. `make_context` reads the certificate anew: call `reload` after a renewal."""

    def __init__(self, settings: GatewaySettings, make_context: Callable[[], SSLContext]) -> None:
        self._settings = settings
        self._make_context = make_context
        self._session: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()

    async def send(self, push: Push) -> Answer:
        return await self._ask(lambda session: self._post(session, push))

    async def get(self, path: str) -> Answer:
        """What the gateway answers to a GET; status 0 with the reason when it does not."""
        return await self._ask(lambda session: self._get(session, path))

    async def _ask(self, request: Callable[[aiohttp.ClientSession], Awaitable[Answer]]) -> Answer:
        try:
            async with self._lock:  # a renewal does not pull the connection away from under a push
                session = await self._open()
                async with asyncio.timeout(self._settings.timeout):
                    return await request(session)
        except TimeoutError:
            return Answer(0, f"no answer within {self._settings.timeout} s")
        except (IdentityRefused, InvalidInput, ProxyUnusable) as error:
            return Answer(0, str(error))
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: the session was closed
            return Answer(0, truncate(f"{type(error).__name__}: {error}"))

    async def _post(self, session: aiohttp.ClientSession, push: Push) -> Answer:
        headers = {**_PROTOCOL_HEADERS[push.protocol], "User-Agent": USER_AGENT, **push.headers.render()}
        url = self._settings.url + PATH
        async with session.post(
            url, data=push.body, headers=headers, allow_redirects=False, **proxy_arguments(self._settings)
        ) as response:
            return await _answer(response)

    async def _get(self, session: aiohttp.ClientSession, path: str) -> Answer:
        async with session.get(
            self._settings.url + path,
            headers={"User-Agent": USER_AGENT},
            allow_redirects=False,
            **proxy_arguments(self._settings),
        ) as response:
            return await _answer(response)

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = await asyncio.to_thread(self._make_context)
            connector = aiohttp.TCPConnector(ssl=context, limit=4)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout()
            )
        return self._session

    async def reload(self) -> None:
        """The next push makes a new handshake with the certificate that is then on disk."""
        async with self._lock:
            session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self.reload()


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) >= MAX_ANSWER_BYTES:
            response.close()
            break
    return Answer(response.status, content[:MAX_ANSWER_BYTES].decode("utf-8", "replace"), response.headers)
