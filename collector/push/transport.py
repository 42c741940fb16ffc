"""One POST to the gateway over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

import aiohttp

from collector.errors import IdentityRefused, ProxyUnusable
from collector.push.answer import Answer
from collector.push.proxy import proxy_arguments
from collector.settings import GatewaySettings
from collector.wire.headers import (
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


@dataclass(frozen=True, slots=True)
class Push:
    """A body, compressed, and which push it is."""

    headers: PushHeaders
    body: bytes
    version_2: bool = True


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
        async with self._lock:  # a renewal does not pull the connection away from under a push
            return await self._send(push)

    async def _send(self, push: Push) -> Answer:
        try:
            session = await self._open()
            async with asyncio.timeout(self._settings.timeout):
                return await self._post(session, push)
        except TimeoutError:
            return Answer(0, f"no answer within {self._settings.timeout} s")
        except (IdentityRefused, InvalidInput, ProxyUnusable) as error:
            return Answer(0, str(error))
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: the session was closed
            return Answer(0, truncate(f"{type(error).__name__}: {error}"))

    async def _post(self, session: aiohttp.ClientSession, push: Push) -> Answer:
        headers = {
            "Content-Encoding": "snappy",
            "Content-Type": CONTENT_TYPE_RW2 if push.version_2 else CONTENT_TYPE_RW1,
            VERSION_HEADER: VERSION_RW2 if push.version_2 else VERSION_RW1,
            "User-Agent": USER_AGENT,
            **push.headers.render(),
        }
        url = self._settings.url + PATH
        async with session.post(
            url, data=push.body, headers=headers, allow_redirects=False, **proxy_arguments(self._settings)
        ) as response:
            text = (await response.content.read(MAX_ANSWER_BYTES)).decode("utf-8", "replace")
            return Answer(response.status, text, response.headers)

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
