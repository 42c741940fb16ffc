"""Gets a target's page: bounded in time and in bytes, with the job's authentication and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import aiohttp

from collector.client.proxy import proxy_arguments
from collector.client.session import authorization_of
from collector.client.tls import tls_context
from collector.errors import ScrapeFailed
from collector.exposition import ACCEPT
from collector.scrape.plain_http import HungUp, NotPlain, PlainClient
from collector.scrape.settings import ScrapeConfig
from collector.scrape.target import Target
from kernel.errors import truncate
from kernel.logs import logger

_log = logger("scrape")
USER_AGENT = "byoc-collector"
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """A body as the target sent it, unpacked."""

    body: bytearray
    content_type: str


class Fetcher:
    """The HTTP side of one scrape job."""

    def __init__(self, job: ScrapeConfig, accept: str = ACCEPT) -> None:
        self._job = job
        self._accept = accept
        self._session: aiohttp.ClientSession | None = None
        self._files: bytes | None = None  # digest of the TLS files that the session was made with
        self._opening = asyncio.Lock()
        self._in_use: Counter[aiohttp.ClientSession] = Counter()
        self._tls: ssl.SSLContext | None = None
        self._plain = PlainClient()
        self._not_plain: set[str] = set()  # URLs that redirect, or send packed bodies
        self._has_authorization = any(
            one is not None for one in (job.basic_auth, job.authorization, job.bearer_token, job.bearer_token_file)
        )

    def done(self, page: Page) -> None:
        """No one uses this page any more: its memory serves for the next one."""
        self._plain.bodies.give(page.body)

    async def fetch(self, target: Target) -> Page:
        """The target's page. Raises ScrapeFailed."""
        try:
            async with asyncio.timeout(target.timeout_seconds):
                return await self._fetch(target)
        except TimeoutError:
            raise ScrapeFailed(f"no whole answer within {target.timeout_seconds} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ScrapeFailed(truncate(f"{type(error).__name__}: {error}") + self._hint(target, error)) from error

    def _hint(self, target: Target, error: Exception) -> str:
        """With TLS 1.3 a target judges our certificate after the handshake: all we see is that it hangs up."""
        hung_up = isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError | HungUp)
        if not hung_up or not target.url.startswith("https:"):
            return ""
        if self._job.tls_config.cert_file is None:
            return "; if it wants a client certificate, set tls_config.cert_file and key_file"
        return "; it may not accept the client certificate of tls_config.cert_file"

    async def _fetch(self, target: Target) -> Page:
        headers = {
            "Accept": self._accept,
            "Accept-Encoding": "identity",  # unpacking costs more than parsing, and the network here is local
            "User-Agent": USER_AGENT,
            "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_seconds:g}",
        }
        if self._has_authorization:
            authorization = await asyncio.to_thread(authorization_of, self._job)
            if authorization:
                headers["Authorization"] = authorization
        session = self._session or await self.open()
        if target.url not in self._not_plain and not proxy_arguments(self._job, target.url):
            try:
                return await self._get_plain(target, headers)
            except NotPlain:
                self._not_plain.add(target.url)
        self._in_use[session] += 1
        try:
            return await self._get(session, target, headers)
        finally:
            self._in_use[session] -= 1
            await self._close_if_idle(session)

    async def _get_plain(self, target: Target, headers: dict[str, str]) -> Page:
        assert self._tls is not None
        name, limit = self._job.tls_config.server_name, self._job.body_size_limit
        head, body = await self._plain.get(target.url, headers, limit, self._tls, name)
        return Page(body, head.headers.get("content-type", "text/plain"))

    async def _get(self, session: aiohttp.ClientSession, target: Target, headers: dict[str, str]) -> Page:
        async with session.get(
            target.url,
            headers=headers,
            allow_redirects=self._job.follow_redirects,
            server_hostname=self._job.tls_config.server_name if target.url.startswith("https:") else None,
            **proxy_arguments(self._job, target.url),
        ) as response:
            if response.status != 200:
                raise ScrapeFailed(f"HTTP status {response.status}; 200 is expected")
            return Page(await self._read(response), response.headers.get("Content-Type", "text/plain"))

    async def _read(self, response: aiohttp.ClientResponse) -> bytearray:
        limit = self._job.body_size_limit
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if limit and len(body) > limit:
                response.close()
                raise ScrapeFailed(f"the body is longer than body_size_limit {limit} bytes")
        return body

    async def open(self) -> aiohttp.ClientSession:
        """The session; a new one when the content of a TLS file changed. Raises OSError when there is none yet.

        A scrape that is under way ends on the connection it began on. Files that are no good leave the old session.
        """
        async with self._opening:
            return await self._open()

    async def _open(self) -> aiohttp.ClientSession:
        files = await asyncio.to_thread(_digest, self._job.tls_config.files().values())
        if self._session is not None and files == self._files:
            return self._session
        try:
            context = await asyncio.to_thread(tls_context, self._job.tls_config)
        except OSError:
            if self._session is None:
                raise
            return self._session
        old, self._files, self._tls = self._session, files, context
        self._plain.close()
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        if old is not None:
            _log.info("target_tls_reloaded", job=self._job.job_name)
            await self._close_if_idle(old)
        return self._session

    async def _close_if_idle(self, session: aiohttp.ClientSession) -> None:
        if session is not self._session and not self._in_use[session]:
            del self._in_use[session]
            await session.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._plain.close()
        session, self._session = self._session, None
        for one in {session, *self._in_use}:
            if one is not None:
                await one.close()
        self._in_use.clear()


def _digest(paths: Iterable[Path]) -> bytes:
    digest = sha256()
    for path in paths:
        try:
            digest.update(sha256(path.read_bytes()).digest())
        except OSError as error:
            digest.update(repr(error.errno).encode())
    return digest.digest()
