"""The proxy on the way to the gateway: from the settings, else from the environment."""

from __future__ import annotations

import urllib.request
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

from collector.errors import ProxyUnusable
from collector.settings import GatewaySettings


def proxy_arguments(settings: GatewaySettings) -> dict[str, Any]:
    """`proxy` and `proxy_headers` of an aiohttp request to the gateway; empty for a direct way.

    Raises ProxyUnusable when HTTPS_PROXY names no HTTP proxy.
    """
    proxy = settings.proxy
    if proxy.url is not None:
        return _arguments(proxy.url, proxy.username, proxy.password.get_secret_value() if proxy.password else "")
    found = _of_environment(settings.url)
    if found is None:
        return {}
    try:
        parts = urlsplit(found if "://" in found else f"http://{found}")
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "http" or not parts.hostname:
        raise ProxyUnusable("HTTPS_PROXY of the environment: http://[user:password@]host[:port] is allowed")
    username = proxy.username if proxy.username is not None else parts.username and unquote(parts.username)
    password = proxy.password.get_secret_value() if proxy.password else unquote(parts.password or "")
    return _arguments(f"http://{parts.netloc.rpartition('@')[2]}", username, password)


def _arguments(url: str, username: str | None, password: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"proxy": url}
    if username is not None:
        credentials = b64encode(f"{username}:{password}".encode()).decode()
        arguments["proxy_headers"] = {"Proxy-Authorization": f"Basic {credentials}"}
    return arguments


def _of_environment(url: str) -> str | None:
    if urllib.request.proxy_bypass(urlsplit(url).netloc):
        return None
    return urllib.request.getproxies().get("https") or None
