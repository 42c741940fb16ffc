"""Requests to the gateway through an HTTP proxy, by a whole HTTP client."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext
from typing import Any

import aiohttp

from collector.client.plain import Request
from collector.push.gateway import Answered
from kernel.errors import truncate


class ProxiedClient:
    """One session."""

    def __init__(self, tls: SSLContext) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=4),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
        )

    async def ask(self, request: Request, limit: int, arguments: Mapping[str, Any]) -> Answered:
        """The answer, its body cut at `limit` bytes. `arguments`: of the proxy. Raises OSError."""
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body or None,
                headers=request.headers,
                allow_redirects=False,
                **arguments,
            ) as response:
                return await _answered(response, limit)
        except aiohttp.ClientError as error:
            raise OSError(truncate(f"{type(error).__name__}: {error}")) from error

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._session.close()


async def _answered(response: aiohttp.ClientResponse, limit: int) -> Answered:
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) >= limit:
            response.close()
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answered(response.status, headers, bytes(content[:limit]))
