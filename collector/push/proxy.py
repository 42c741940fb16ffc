"""The proxy on the way to the gateway: from the settings, else from the environment."""

from __future__ import annotations

import urllib.request
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from collector.settings import GatewaySettings


def proxy_arguments(settings: GatewaySettings) -> dict[str, Any]:
    """`proxy` and `proxy_auth` of an aiohttp request to the gateway; empty for a direct way."""
    proxy = settings.proxy
    url = proxy.url or _of_environment(settings.url)
    if url is None:
        return {}
    arguments: dict[str, Any] = {"proxy": url}
    if proxy.username is not None:
        password = proxy.password.get_secret_value() if proxy.password else ""
        arguments["proxy_auth"] = aiohttp.BasicAuth(proxy.username, password)
    return arguments


def _of_environment(url: str) -> str | None:
    if urllib.request.proxy_bypass(urlsplit(url).netloc):
        return None
    return urllib.request.getproxies().get("https")
