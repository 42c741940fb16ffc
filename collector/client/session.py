"""A session with a server on the customer's side; files of secrets and TLS are read again when they change."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from collector.client.authorization import authorization_of
from collector.client.proxy import proxy_arguments
from collector.client.settings import HttpClientSettings
from collector.client.tls import tls_context

USER_AGENT = "byoc-collector"
Stamp = tuple[tuple[str, int, int], ...]


class HttpClient:
    """The connections of one `HttpClientSettings`. `limit`: most connections at a time, 0 for any number."""

    def __init__(self, settings: HttpClientSettings, *, limit: int = 0) -> None:
        self._settings = settings
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None
        self._stamp: Stamp = ()
        self._opening = asyncio.Lock()

    async def session(self) -> aiohttp.ClientSession:
        """The session; a new one, and the old one closed, when a file of TLS has changed. Raises OSError."""
        async with self._opening:
            stamp = await asyncio.to_thread(_stamp, self._settings)
            if self._session is not None and stamp == self._stamp:
                return self._session
            context = await asyncio.to_thread(tls_context, self._settings.tls_config)
            old, self._stamp = self._session, stamp
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, limit=self._limit),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
            )
            if old is not None:
                await old.close()
            return self._session

    async def arguments(self, url: str, headers: dict[str, str]) -> dict[str, Any]:
        """Of a request to `url`: headers with ours among them, proxy, redirects, server name.

        Raises OSError (a file of credentials can't be read), ValueError (a bad proxy in the environment).
        """
        settings = self._settings
        authorization = await asyncio.to_thread(authorization_of, settings)
        own = {"Authorization": authorization} if authorization else {}
        https = url.startswith("https:")
        return {
            "headers": {"User-Agent": USER_AGENT, **headers, **own},
            "allow_redirects": settings.follow_redirects,
            "server_hostname": settings.tls_config.server_name if https else None,
            **proxy_arguments(settings, url),
        }

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _stamp(settings: HttpClientSettings) -> Stamp:
    """Which content the files of TLS have: time and inode, as rotation replaces files."""
    found = []
    for name, path in settings.tls_config.files().items():
        status = path.stat()
        found.append((name, status.st_mtime_ns, status.st_ino))
    return tuple(found)
