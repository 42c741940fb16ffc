"""GETs by a whole HTTP client: for targets behind a proxy, that redirect, or that send packed bodies."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp

from collector.client.plain import HungUp
from collector.errors import ScrapeFailed
from collector.scrape.settings import ScrapeConfig
from kernel.errors import truncate

_CHUNK = 256 * 1024


class WholeClient:
    """The connections of one job that need it."""

    def __init__(self, job: ScrapeConfig) -> None:
        self._job = job
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None  # of the session
        self._in_use: Counter[aiohttp.ClientSession] = Counter()

    async def get(
        self, url: str, headers: Mapping[str, str], arguments: Mapping[str, Any], tls: ssl.SSLContext
    ) -> tuple[bytearray, str]:
        """Body and Content-Type. `arguments`: of the proxy. Raises ScrapeFailed, OSError, ValueError.

        With another `tls` than before connections are made anew; a GET that is under way ends on its own.
        """
        session = self._session_with(tls)
        self._in_use[session] += 1
        try:
            return await self._get(session, url, headers, arguments)
        except aiohttp.ServerDisconnectedError as error:
            raise HungUp(is_clean=False) from error
        except aiohttp.ClientError as error:
            if isinstance(error, OSError):
                raise
            raise ScrapeFailed(truncate(f"{type(error).__name__}: {error}")) from error
        finally:
            self._in_use[session] -= 1
            await self._close_unused()

    async def _get(
        self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], arguments: Mapping[str, Any]
    ) -> tuple[bytearray, str]:
        async with session.get(
            url,
            headers=headers,
            allow_redirects=self._job.follow_redirects,
            server_hostname=self._job.tls_config.server_name if url.startswith("https:") else None,
            **arguments,
        ) as response:
            if response.status != 200:
                raise ScrapeFailed(f"HTTP status {response.status}; 200 is expected")
            return await self._read(response), response.headers.get("Content-Type", "text/plain")

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        limit = self._job.body_size_limit
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if limit and len(body) > limit:
                response.close()
                raise ScrapeFailed(f"the body is longer than body_size_limit {limit} bytes")
        return body

    def _session_with(self, tls: ssl.SSLContext) -> aiohttp.ClientSession:
        if self._session is None or tls is not self._tls:
            self._tls = tls
            connector = aiohttp.TCPConnector(ssl=tls, limit=0)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _close_unused(self) -> None:
        for one in [one for one, number in self._in_use.items() if not number and one is not self._session]:
            del self._in_use[one]
            await one.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        for one in {session, *self._in_use}:
            if one is not None:
                await one.close()
        self._in_use.clear()
