"""Which proxy a request goes through: the rules of Go's httpproxy, as in Prometheus.

With `proxy_url` alone every request goes through it. With `no_proxy`, or by the environment, the exceptions hold,
and localhost and loopback addresses are always direct.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from collector.client.settings import HttpClientSettings, check_proxy_url

_PORTS = {"http": 80, "https": 443}


def proxy_of(settings: HttpClientSettings, url: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The proxy's URL for a request to `url`; None: direct. Raises ValueError for a bad one in the environment."""
    if settings.proxy_url is not None:
        proxy = settings.proxy_url.get_secret_value()
        return proxy if not settings.no_proxy or _wanted(url, settings.no_proxy) else None
    if not settings.proxy_from_environment:
        return None
    scheme = urlsplit(url).scheme
    found = _variable(environment, f"{scheme}_proxy")
    if scheme == "http" and environment.get("REQUEST_METHOD"):
        raise ValueError("HTTP_PROXY is not used under CGI, where a client can set it")
    if not found or not _wanted(url, _variable(environment, "no_proxy")):
        return None
    try:
        return check_proxy_url(found if "://" in found else f"http://{found}", ("http", "https"))
    except ValueError as error:
        raise ValueError(f"{scheme.upper()}_PROXY of the environment: {error}") from None


def proxy_arguments(settings: HttpClientSettings, url: str) -> dict[str, Any]:
    """`proxy` and `proxy_headers` of an aiohttp request; empty for a direct way. Raises ValueError."""
    proxy = proxy_of(settings, url)
    if proxy is None:
        return {}
    arguments: dict[str, Any] = {"proxy": proxy}  # with its user: our own headers go with CONNECT alone
    headers = {
        name: one.get_secret_value() for name, found in settings.proxy_connect_header.items() for one in found
    }
    if headers:
        arguments["proxy_headers"] = headers
    return arguments


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name) or ""


def _wanted(url: str, exceptions: str) -> bool:
    """Whether the host of `url` goes through the proxy, by a no_proxy list."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_matches(entry.strip().lower(), host, port, address) for entry in exceptions.split(","))


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _matches(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    excepted = _address(name)
    if excepted is not None:
        return excepted == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        rest = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, rest = entry.partition(":")
    else:
        name, rest = entry, ""
    return name, int(rest) if rest.isdigit() else None
