"""How customer-side servers are asked: which proxy, through TLS, with files that are rotated."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

from collector.client.proxy import proxy_arguments, proxy_of
from collector.client.session import HttpClient
from collector.client.settings import HttpClientSettings
from tests.collector.proxy import run_proxy
from tests.collector.world import serve


def settings(**fields: Any) -> HttpClientSettings:
    return HttpClientSettings.model_validate(fields)


# From the tests of golang.org/x/net/http/httpproxy, by what they hold: is the host asked directly?
@pytest.mark.parametrize(
    ("host", "exceptions", "direct"),
    [
        ("localhost", "x", True),
        ("127.0.0.1", "x", True),
        ("127.0.0.2", "x", True),
        ("[::1]", "x", True),
        ("[::2]", "x", False),
        ("192.168.1.1", "192.168.1.1", True),
        ("192.168.1.3:443", "192.168.1.3:80", False),
        ("192.168.1.5", "192.168.1.0/24", True),
        ("192.168.2.5", "192.168.1.0/24", False),
        ("[2001:db8::52:0:1]", "2001:db8::52:0:1", True),
        ("[2001:db8::52:0:1]:443", "[2001:db8::52:0:1]:443", True),
        ("[2001:db8::52:0:1]:80", "[2001:db8::52:0:1]:443", False),
        ("[2002:db8:a::45]", "2002:db8:a::45/64", True),
        ("barbaz.net", "barbaz.net", True),
        ("www.barbaz.net", "barbaz.net", True),
        ("foobarbaz.net", "barbaz.net", False),
        ("barbaz.net", ".barbaz.net", False),
        ("www.barbaz.net", ".barbaz.net", True),
        ("www.barbaz.net", "*.barbaz.net", True),
        ("BARBAZ.net", " barBAZ.net , x", True),
        ("example.com:8080", "example.com:8080", True),
        ("example.com", "example.com:8080", False),
        ("example.com", "example.com:80", True),
        ("anything", "a,*", True),
        ("anything", ",,/,a/b", False),
    ],
)
def test_no_proxy_means_what_it_means_to_go(host: str, exceptions: str, direct: bool) -> None:
    found = proxy_of(settings(proxy_url="http://proxy:1", no_proxy=exceptions), f"http://{host}/metrics")
    assert (found is None) == direct


def test_a_proxy_url_alone_is_for_every_host() -> None:
    assert proxy_of(settings(proxy_url="http://proxy:1"), "http://localhost/") == "http://proxy:1"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://h/", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://h/", {"http_proxy": "p:1"}, "http://p:1"),
        ("https://h/", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://h/", {"HTTPS_PROXY": "https://p:1"}, "https://p:1"),
        ("https://h/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "h"}, None),
        ("https://localhost/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://h/", {}, None),
    ],
)
def test_the_environment_decides_where_it_is_asked(
    url: str, environment: dict[str, str], expected: str | None
) -> None:
    assert proxy_of(settings(proxy_from_environment=True), url, environment) == expected
    assert proxy_of(settings(), url, environment) is None


@pytest.mark.parametrize("bad", ["socks5://u:hush@p:1", "http://u:hush@p:port", "http://u:hush@/"])
def test_a_bad_proxy_of_the_environment_is_named_without_its_password(bad: str) -> None:
    with pytest.raises(ValueError, match="HTTP_PROXY") as error:
        proxy_of(settings(proxy_from_environment=True), "http://h/", {"HTTP_PROXY": bad})
    assert "hush" not in str(error.value)


def test_headers_for_the_proxy_do_not_print() -> None:
    found = settings(proxy_url="http://u:p%40ss@proxy:1", proxy_connect_header={"X-Team": ["hush"]})
    assert "hush" not in repr(found)
    assert "p%40ss" not in repr(found)
    assert proxy_arguments(found, "https://h/") == {
        "proxy": "http://u:p%40ss@proxy:1",
        "proxy_headers": {"X-Team": "hush"},
    }


async def _ask(client: HttpClient, url: str) -> str:
    session = await client.session()
    async with session.get(url, **await client.arguments(url, {})) as response:
        return await response.text()


def _server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def _page(text: str) -> web.Application:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app.add_routes([web.get("/{tail:.*}", answer)])
    return app


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_may_itself_be_behind_tls(tmp_path: Path, loop: str, scheme: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def through() -> tuple[str, list[str]]:
        context = _server_context(authority)
        async with (
            serve(_page("a 1"), context if scheme == "https" else None) as port,
            run_proxy(_server_context(authority)) as proxy,
        ):
            client = HttpClient(settings(proxy_url=proxy.url, tls_config={"ca_file": str(tmp_path / "ca.pem")}))
            try:
                return await _ask(client, f"{scheme}://127.0.0.1:{port}/metrics"), proxy.asked
            finally:
                await client.close()

    text, asked = (asyncio.run if loop == "asyncio" else uvloop.run)(through())
    assert text == "a 1"
    assert len(asked) == 1
    assert asked[0].startswith("CONNECT " if scheme == "https" else "GET http://")


async def test_an_authority_that_was_replaced_is_taken_up(tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    first.cert_pem.write_to_path(file)
    client = HttpClient(settings(tls_config={"ca_file": str(file)}))
    async with serve(_page("old"), _server_context(first)) as port:
        assert await _ask(client, f"https://127.0.0.1:{port}/") == "old"
    async with serve(_page("new"), _server_context(second)) as port:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _ask(client, f"https://127.0.0.1:{port}/")
        file.unlink()
        second.cert_pem.write_to_path(file)
        assert await _ask(client, f"https://127.0.0.1:{port}/") == "new"
    await client.close()
