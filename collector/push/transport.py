"""One POST to the gateway over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from collector.client.plain import Request
from collector.errors import IdentityRefused, ProxyUnusable
from collector.push.answer import Answer
from collector.push.gateway import GatewayClient
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
        self._client: GatewayClient | None = None
        self._lock = asyncio.Lock()

    async def send(self, push: Push) -> Answer:
        headers = {**_PROTOCOL_HEADERS[push.protocol], **push.headers.render()}
        return await self._ask(Request(PATH, headers, "POST", push.body))

    async def get(self, path: str) -> Answer:
        """What the gateway answers to a GET; status 0 with the reason when it does not."""
        return await self._ask(Request(path, {}))

    async def _ask(self, request: Request) -> Answer:
        try:
            async with self._lock:  # a renewal does not pull the connection away from under a push
                if self._client is None:
                    context = await asyncio.to_thread(self._make_context)
                    self._client = GatewayClient(self._settings, context)
                async with asyncio.timeout(self._settings.timeout):
                    status, headers, body = await self._client.ask(request, MAX_ANSWER_BYTES)
        except TimeoutError:
            return Answer(0, f"no answer within {self._settings.timeout} s")
        except (IdentityRefused, InvalidInput, ProxyUnusable) as error:
            return Answer(0, str(error))
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the connection was closed
            return Answer(0, truncate(f"{type(error).__name__}: {error}"))
        return Answer(status, body.decode("utf-8", "replace"), headers)

    async def reload(self) -> None:
        """The next push makes a new handshake with the certificate that is then on disk."""
        async with self._lock:
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self.reload()
