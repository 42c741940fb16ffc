"""Requests to the gateway over TLS: directly, or through a proxy."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext
from typing import TYPE_CHECKING, NamedTuple

from collector.client.plain import BadAnswer, NotPlain, PlainClient, Request
from collector.push.proxy import proxy_arguments
from collector.settings import GatewaySettings

if TYPE_CHECKING:
    from collector.push.proxied import ProxiedClient

USER_AGENT = "byoc-collector"


class Answered(NamedTuple):
    """An answer of any status. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GatewayClient:
    """Connections with one TLS context, kept for the next request."""

    def __init__(self, settings: GatewaySettings, tls: SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._plain = PlainClient()
        self._proxied: ProxiedClient | None = None

    async def ask(self, request: Request, limit: int) -> Answered:
        """The answer, its body cut at `limit` bytes. `request.url` is a path.

        Raises OSError (no answer), ValueError, ProxyUnusable.
        """
        headers = {"User-Agent": USER_AGENT, **request.headers}
        whole = Request(self._settings.url + request.url, headers, request.method, request.body)
        arguments = proxy_arguments(self._settings)
        if arguments:
            return await self._through_proxy().ask(whole, limit, arguments)
        try:
            head, body = await self._plain.ask(whole, limit, self._tls)
        except (BadAnswer, NotPlain) as error:
            raise OSError(str(error) or "a packed answer, though none was asked for") from error
        return Answered(head.status, head.headers, bytes(body))

    def _through_proxy(self) -> ProxiedClient:
        if self._proxied is None:
            from collector.push.proxied import ProxiedClient  # 10 MB that a direct way does not need

            self._proxied = ProxiedClient(self._tls)
        return self._proxied

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._plain.close()
        if self._proxied is not None:
            await self._proxied.close()
