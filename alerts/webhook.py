"""One signed POST to a receiver."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from alerts.retries import Attempt, Outcome, classify, parse_retry_after
from alerts.settings import is_public_address, is_public_host
from alerts.signature import signed_headers
from kernel.clock import Clock
from kernel.errors import truncate

MAX_ANSWER_BYTES = 64 * 1024
DETAIL_LIMIT = 200


class PrivateAddress(OSError):
    """A receiver's name resolves to an address that is not public."""


class PublicResolver(AbstractResolver):
    """Resolves to public addresses only, at each connection: a name that changes later gains nothing."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        public = [entry for entry in found if is_public_address(ipaddress.ip_address(entry["host"].split("%")[0]))]
        if not public:
            raise PrivateAddress(f"{host} has no public address; see alerts.allow_private_receivers")
        return public

    async def close(self) -> None:
        await self._resolver.close()


@dataclass(frozen=True, slots=True)
class Message:
    """A stored request: the same id and body at every attempt."""

    webhook_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a receiver listens and what it is signed with."""

    url: str
    keys: tuple[bytes, ...]
    timeout_seconds: float


class WebhookSender:
    """Sends messages over one connection pool. `close` it."""

    def __init__(self, clock: Clock, *, allow_private: bool, retry_after_limit_ms: int) -> None:
        self._clock = clock
        self._allow_private = allow_private
        self._retry_after_limit_ms = retry_after_limit_ms
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = None if self._allow_private else PublicResolver()
            connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit_per_host=2)
            self._session = aiohttp.ClientSession(
                connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def send(self, endpoint: Endpoint, message: Message) -> Attempt:
        """One attempt. Every failure is an outcome; only cancellation raises.

        Delivered means that a 2xx was read to its end. A failure may still have reached the receiver.
        """
        started_ms, started = self._clock.now_ms(), self._clock.monotonic()

        def attempt(outcome: Outcome, **fields: Any) -> Attempt:
            return Attempt(outcome, started_ms, round((self._clock.monotonic() - started) * 1000), **fields)

        if not self._allow_private and not is_public_host(str(urlsplit(endpoint.url).hostname)):
            return attempt(Outcome.FORBIDDEN, detail="a private address; see alerts.allow_private_receivers")
        body = message.body.encode()
        headers = signed_headers(endpoint.keys, message.webhook_id, started_ms // 1000, body)
        headers |= {"Content-Type": "application/json", "User-Agent": "byoc-alerts"}
        try:
            status, answer, answered = await self._post(endpoint, body, headers)
        except TimeoutError:
            return attempt(Outcome.UNAVAILABLE, detail=f"no answer within {endpoint.timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            private = isinstance(error, PrivateAddress) or isinstance(error.__cause__, PrivateAddress)
            outcome = Outcome.FORBIDDEN if private else Outcome.UNAVAILABLE
            return attempt(outcome, detail=truncate(f"{type(error).__name__}: {error}", DETAIL_LIMIT))
        wait = parse_retry_after(answered.get("Retry-After", ""), self._clock.now_ms(), self._retry_after_limit_ms)
        outcome = classify(status, has_retry_after=wait is not None)
        shown = "" if outcome is Outcome.DELIVERED else truncate(answer.decode("utf-8", "replace"), DETAIL_LIMIT)
        return attempt(outcome, status=status, detail=shown, retry_after_ms=wait)

    async def _post(
        self, endpoint: Endpoint, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        async with asyncio.timeout(endpoint.timeout_seconds):
            request = self._open().post(endpoint.url, data=body, headers=headers, allow_redirects=False)
            async with request as response:
                answer = b""
                while chunk := await response.content.read(MAX_ANSWER_BYTES - len(answer)):
                    answer += chunk
                    if len(answer) >= MAX_ANSWER_BYTES:
                        response.close()
                        break
                return response.status, answer, response.headers

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
