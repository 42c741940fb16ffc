"""An API server: where it is, who we are there, and how an answer is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

from collector.client.session import HttpClient
from collector.client.settings import Authorization, TlsSettings
from collector.scrape.discovery_settings import KubernetesSdConfig, Role
from kernel.clock import Clock
from kernel.errors import InvalidInput, Retry, truncate

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_LIST_BYTES = 256 * 1024 * 1024  # of one page of a list
MAX_EVENT_BYTES = 16 * 1024 * 1024  # an object is 1.5 MB at most in etcd
LIST_SECONDS = 60.0
WATCH_GRACE_SECONDS = 30.0
# RuntimeError: the session was closed, as the CA or the certificate changed under another request
_UNREACHABLE = (aiohttp.ClientError, OSError, ValueError, RuntimeError)


class ApiFailed(Retry):
    """The API server did not answer as it should. `status` 0: it did not answer at all."""

    def __init__(self, status: int, text: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(truncate(f"HTTP {status}: {text}" if status else text))
        self.status = status
        self.retry_after_seconds = retry_after_seconds


def in_cluster(account: Path, environment: Mapping[str, str] = os.environ) -> KubernetesSdConfig:
    """How a pod reaches its own API server. Raises InvalidInput outside of a cluster."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise InvalidInput.single(
            "kubernetes_sd_configs", "api_server", "nothing, and no KUBERNETES_SERVICE_HOST", "a URL outside a pod"
        )
    host = f"[{host}]" if ":" in host else host
    return KubernetesSdConfig(
        role=Role.POD,
        api_server=f"https://{host}:{port}",
        authorization=Authorization(credentials_file=account / "token"),
        tls_config=TlsSettings(ca_file=account / "ca.crt"),
    )


class ApiServer:
    """Requests to one API server. The token's file is read at each, so a rotated one is taken up."""

    def __init__(self, settings: KubernetesSdConfig, clock: Clock) -> None:
        assert settings.api_server is not None
        self._url = settings.api_server
        self._client = HttpClient(settings)
        self.clock = clock

    async def get(self, path: str, query: Mapping[str, str]) -> Any:
        """A JSON answer. Raises ApiFailed."""
        try:
            async with asyncio.timeout(LIST_SECONDS), await self._ask(path, query) as response:
                await _check(response)
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_LIST_BYTES:
                        raise ApiFailed(0, f"a list of more than {MAX_LIST_BYTES} bytes")
            return await asyncio.to_thread(json.loads, bytes(body))
        except TimeoutError:
            raise ApiFailed(0, f"no whole answer within {LIST_SECONDS:g} s") from None
        except _UNREACHABLE as error:
            raise ApiFailed(0, f"{type(error).__name__}: {error}") from error

    async def watch(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncGenerator[Any]:
        """JSON events, line by line, until the server ends the answer after `seconds`. Raises ApiFailed."""
        try:
            async with (
                asyncio.timeout(seconds + WATCH_GRACE_SECONDS),  # a dead connection says nothing
                await self._ask(path, query) as response,
            ):
                await _check(response)
                async for line in _lines(response):
                    yield json.loads(line)
        except TimeoutError:
            raise ApiFailed(0, f"a watch that did not end after {seconds:g} s") from None
        except _UNREACHABLE as error:
            raise ApiFailed(0, f"{type(error).__name__}: {error}") from error

    async def _ask(self, path: str, query: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = f"{self._url}{path}?{urlencode(query)}"
        session = await self._client.session()
        return await session.get(url, **await self._client.arguments(url, {"Accept": "application/json"}))

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.close()


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    text = (await response.content.read(4096)).decode("utf-8", "replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["message"]  # a Status object
    after = response.headers.get("Retry-After", "")
    raise ApiFailed(response.status, text, float(after) if after.isascii() and after.isdigit() else None)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.content.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > MAX_EVENT_BYTES:
                raise ApiFailed(0, f"an event of more than {MAX_EVENT_BYTES} bytes")
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line.strip():
                yield line
