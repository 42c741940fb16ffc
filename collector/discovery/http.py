"""`http_sd_configs`: targets that a server names (prometheus.io/docs/prometheus/latest/http_sd).

A wrong or missing answer keeps the targets of the last good one.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Annotated

import aiohttp
from pydantic import Field, TypeAdapter, ValidationError

from collector.client.session import HttpClient
from collector.scrape.discovery_settings import HttpSdConfig
from collector.scrape.settings import LabelName
from collector.scrape.target import Discovered
from kernel.clock import Clock
from kernel.errors import InvalidInput, truncate
from kernel.logs import logger
from kernel.settings import Section, invalid

_log = logger("discovery")
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_TARGETS = 100_000
TIMEOUT_SECONDS = 60.0  # at most; the interval if that is shorter, as in Prometheus
_JSON = re.compile(r'application/json(;\s*charset=("utf-8"|utf-8))?', re.IGNORECASE)


class TargetGroup(Section):
    """One group of an answer. Addresses are checked after relabelling, as a URL may be meant for a parameter."""

    targets: tuple[str, ...] = Field((), description="Addresses; default none.")
    labels: dict[LabelName, str] = Field({}, description="Labels of them all; default none.")


_GROUPS: TypeAdapter[tuple[TargetGroup, ...]] = TypeAdapter(Annotated[tuple[TargetGroup, ...], Field(strict=False)])


class HttpDiscovery:
    """One server of target groups; `targets` is its last good answer."""

    def __init__(self, config: HttpSdConfig, clock: Clock) -> None:
        self.targets: Sequence[Discovered] = ()
        self.last_error: str | None = None
        self._config = config
        self._clock = clock
        self._client = HttpClient(config, limit=1)

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        try:
            while True:
                await self.refresh()
                await self._clock.sleep(self._config.refresh_interval)
        finally:
            await self._client.close()

    async def refresh(self) -> None:
        """Ask once. A failure is logged when it begins."""
        try:
            async with asyncio.timeout(min(TIMEOUT_SECONDS, self._config.refresh_interval)):
                found = await self._ask()
        except (aiohttp.ClientError, OSError, ValueError, InvalidInput) as error:
            if self.last_error is None:
                _log.warning("http_discovery_failed", url=_shown(self._config.url), reason=truncate(str(error)))
            self.last_error = truncate(f"{type(error).__name__}: {error}")
        else:
            self.targets, self.last_error = found, None

    async def _ask(self) -> list[Discovered]:
        url = self._config.url
        headers = {
            "Accept": "application/json",
            "X-Prometheus-Refresh-Interval-Seconds": f"{self._config.refresh_interval:g}",
        }
        session = await self._client.session()
        async with session.get(url, **await self._client.arguments(url, headers)) as response:
            if response.status != 200:
                raise ValueError(f"HTTP status {response.status}; 200 is expected")
            content_type = response.headers.get("Content-Type", "").strip()
            if _JSON.fullmatch(content_type) is None:
                raise ValueError(f"content type {content_type!r}; application/json is expected")
            body = await _bounded(response)
        return await asyncio.to_thread(parse_groups, body, url)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._client.close()


def parse_groups(body: bytes, url: str) -> list[Discovered]:
    """The targets of an answer, each with `__meta_url`. Raises InvalidInput, ValueError (no JSON)."""
    content = json.loads(body)
    try:
        groups = _GROUPS.validate_python(content)
    except ValidationError as error:
        raise invalid(error, _shown(url)) from error
    found = [Discovered(one, {**group.labels, "__meta_url": url}) for group in groups for one in group.targets]
    if len(found) > MAX_TARGETS:
        raise ValueError(f"{len(found)} targets; at most {MAX_TARGETS} are taken from one URL")
    return found


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            raise ValueError(f"an answer of more than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _shown(url: str) -> str:
    """A URL for the log, without its query: that may hold a secret."""
    return url.partition("?")[0]
