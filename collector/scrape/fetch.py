"""Gets a target's page: bounded in time and in bytes, with the job's authentication and TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from collector.client.authorization import authorization_of
from collector.client.plain import BadAnswer, Head, HungUp, NotPlain, PlainClient, Wanted
from collector.client.proxy import proxy_arguments
from collector.client.tls import tls_context
from collector.errors import ScrapeFailed
from collector.exposition import ACCEPT, PageStream
from collector.scrape.settings import ScrapeConfig
from collector.scrape.target import Target
from kernel.errors import truncate
from kernel.logs import logger

if TYPE_CHECKING:
    from collector.scrape.whole import WholeClient

_log = logger("scrape")
USER_AGENT = "byoc-collector"


TakePage = Callable[[str], PageStream | None]  # by the Content-Type


@dataclass(frozen=True, slots=True)
class Page:
    """A body as the target sent it, unpacked. Of a `stream`, which has read it as it came, `body` is empty."""

    body: bytearray
    content_type: str
    stream: PageStream | None = None


class Fetcher:
    """The HTTP side of one scrape job."""

    def __init__(self, job: ScrapeConfig, accept: str = ACCEPT) -> None:
        self._job = job
        self._accept = accept
        self._files: bytes | None = None  # digest of the TLS files that the context was made with
        self._opening = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        self._plain = PlainClient()
        self._whole: WholeClient | None = None
        self._not_plain: set[str] = set()  # URLs that redirect, or send packed bodies
        self._has_authorization = any(
            one is not None for one in (job.basic_auth, job.authorization, job.bearer_token, job.bearer_token_file)
        )

    def done(self, page: Page) -> None:
        """No one uses this page any more: its memory serves for the next one."""
        self._plain.bodies.give(page.body)

    async def fetch(self, target: Target, take: TakePage | None = None) -> Page:
        """The target's page; a large one goes to what `take` gives for its type, if that is not None.

        Raises ScrapeFailed.
        """
        try:
            async with asyncio.timeout(target.timeout_seconds):
                return await self._fetch(target, take)
        except TimeoutError:
            raise ScrapeFailed(f"no whole answer within {target.timeout_seconds} s") from None
        except (OSError, ValueError) as error:
            raise ScrapeFailed(truncate(f"{type(error).__name__}: {error}") + self._hint(target, error)) from error

    def _hint(self, target: Target, error: Exception) -> str:
        """With TLS 1.3 a target judges our certificate after the handshake: all we see is that it hangs up."""
        hung_up = isinstance(error, ConnectionResetError | HungUp)
        if not hung_up or not target.url.startswith("https:"):
            return ""
        if self._job.tls_config.cert_file is None:
            return "; if it wants a client certificate, set tls_config.cert_file and key_file"
        return "; it may not accept the client certificate of tls_config.cert_file"

    async def _fetch(self, target: Target, take: TakePage | None) -> Page:
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
        tls = self._tls or await self.open()
        arguments = proxy_arguments(self._job, target.url)
        if target.url not in self._not_plain and not arguments:
            streams: list[PageStream] = []

            def taker(head: Head) -> PageStream | None:
                stream = take(_content_type(head)) if take is not None else None
                streams[:] = [stream] if stream is not None else []
                return stream

            wanted = Wanted(self._job.body_size_limit, taker=taker if take is not None else None)
            try:
                head, body = await self._plain.get(
                    target.url, headers, wanted, tls, self._job.tls_config.server_name
                )
            except BadAnswer as error:
                raise ScrapeFailed(str(error)) from None
            except NotPlain:
                self._not_plain.add(target.url)
            else:
                return Page(body, _content_type(head), *streams)
        if self._whole is None:
            from collector.scrape.whole import WholeClient  # 10 MB that most collectors never need

            self._whole = WholeClient(self._job)
        body, content_type = await self._whole.get(target.url, headers, arguments, tls)
        return Page(body, content_type)

    async def open(self) -> ssl.SSLContext:
        """The TLS context; a new one, and new connections, when the content of a file of TLS changed.

        A scrape that is under way ends on the connection it began on. Files that are no good leave what there is;
        OSError when there is none yet.
        """
        async with self._opening:
            files = await asyncio.to_thread(_digest, self._job.tls_config.files().values())
            if self._tls is not None and files == self._files:
                return self._tls
            try:
                context = await asyncio.to_thread(tls_context, self._job.tls_config)
            except OSError:
                if self._tls is None:
                    raise
                return self._tls
            if self._tls is not None:
                _log.info("target_tls_reloaded", job=self._job.job_name)
            self._files, self._tls = files, context
            self._plain.close()
            return context

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._plain.close()
        if self._whole is not None:
            await self._whole.close()


def _content_type(head: Head) -> str:
    return head.headers.get("content-type", "text/plain")


def _digest(paths: Iterable[Path]) -> bytes:
    digest = sha256()
    for path in paths:
        try:
            digest.update(sha256(path.read_bytes()).digest())
        except OSError as error:
            digest.update(repr(error.errno).encode())
    return digest.digest()
