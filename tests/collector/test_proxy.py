"""The way out through a forward proxy: settings, environment, credentials, exceptions."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import uvloop

from collector.errors import ProxyUnusable
from collector.push.proxy import proxy_arguments
from collector.settings import load_collector_settings
from kernel.errors import InvalidInput
from tests.collector.proxy import ForwardProxy, run_proxy
from tests.collector.test_push import World, draft, shipping_to
from tests.collector.world import ScriptedGateway, run_gateway, until, write_config


@pytest.fixture(autouse=True)
def _no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def push_one(gateway: ScriptedGateway, folder: Path, proxy: dict[str, Any]) -> None:
    """Enrol, and push one frame over mutual TLS."""
    async with shipping_to(gateway, folder, proxy=proxy) as shipping:
        await World(gateway, shipping, folder).ship(draft("a"))
    assert gateway.rows() == [("a", 1000, 1.0)]
    assert gateway.enrolments == ["enrol"]


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_enrolment_and_push_go_through_the_tunnel_with_user_and_password(tmp_path: Path, loop: str) -> None:
    proxies: list[ForwardProxy] = []

    async def through() -> int:
        async with run_gateway(tmp_path) as gateway, run_proxy() as proxy:
            proxies.append(proxy)
            await push_one(gateway, tmp_path, {"url": proxy.url, "username": "byoc", "password": "öpen:sesame"})
            return gateway.port

    port = (asyncio.run if loop == "asyncio" else uvloop.run)(through())
    assert proxies[0].asked == [f"CONNECT localhost:{port}"] * 2  # /enrol has no certificate: its own connection
    assert proxies[0].credentials == [basic("byoc:öpen:sesame")] * 2
    assert proxies[0].carried > 1000


async def test_a_password_is_for_the_proxy_alone(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway, run_proxy() as proxy:
        await push_one(gateway, tmp_path, {"url": proxy.url, "username": "byoc", "password": "sesame"})
        assert "Proxy-Authorization" not in gateway.requests[0].headers
        assert basic("byoc:sesame").encode() not in gateway.wire


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxy_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    async with run_gateway(tmp_path) as gateway, run_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}byoc:p%40ss@127.0.0.1:{proxy.port}")
        await push_one(gateway, tmp_path, {})
    assert proxy.asked == [f"CONNECT localhost:{gateway.port}"] * 2
    assert proxy.credentials == [basic("byoc:p@ss")] * 2


async def test_the_settings_win_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    async with run_gateway(tmp_path) as gateway, run_proxy() as proxy:
        await push_one(gateway, tmp_path, {"url": proxy.url})
    assert (len(proxy.asked), proxy.credentials) == (2, [None, None])


@pytest.mark.parametrize("exception", ["localhost", "other.example,localhost", "*"])
async def test_no_proxy_goes_past_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: str) -> None:
    async with run_gateway(tmp_path) as gateway, run_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exception)
        await push_one(gateway, tmp_path, {})
        assert proxy.asked == []


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "https://proxy.example", "http://proxy:port", "http://"])
async def test_an_environment_that_names_no_http_proxy_is_said_and_does_not_end_the_push(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    async with run_gateway(tmp_path) as gateway:
        async with shipping_to(gateway, tmp_path):
            pass  # enrolled on a direct way
        monkeypatch.setenv("HTTPS_PROXY", named)
        async with shipping_to(gateway, tmp_path) as shipping:
            await shipping.spool.append(draft("a"))
            uploader = shipping.uploader
            assert uploader is not None
            await until(lambda: "HTTPS_PROXY" in (uploader.last_error or ""))
            monkeypatch.delenv("HTTPS_PROXY")
            await shipping.spool.drained()
        assert gateway.rows() == [("a", 1000, 1.0)]


async def test_a_proxy_that_refuses_is_named_and_asked_again(tmp_path: Path) -> None:
    async with run_gateway(tmp_path) as gateway:
        async with shipping_to(gateway, tmp_path):
            pass
        asked: list[bytes] = []

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with shipping_to(gateway, tmp_path, proxy={"url": url}) as shipping:
            await shipping.spool.append(draft("a"))
            await until(lambda: len(asked) >= 2)
            assert shipping.uploader is not None
            assert "407" in (shipping.uploader.last_error or "")
        server.close()
        assert gateway.requests == []


@pytest.mark.parametrize(
    "url",
    ["proxy:3128", "https://proxy", "socks5://h:1", "http://", "http://h:x", "http://h/path", "http://u:hush@h"],
)
def test_a_setting_that_is_no_http_proxy_is_refused_and_its_password_not_repeated(tmp_path: Path, url: str) -> None:
    config = write_config(
        tmp_path, "https://g.example", gateway={"url": "https://g.example", "proxy": {"url": url}}
    )
    with pytest.raises(InvalidInput) as refusal:
        load_collector_settings(config)
    assert [finding.where for finding in refusal.value.findings] == ["gateway.proxy.url"]
    assert "hush" not in str(refusal.value)


def test_the_password_of_the_environment_is_not_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://u:hush@proxy.example")
    settings = load_collector_settings(write_config(tmp_path, "https://g.example"))
    with pytest.raises(ProxyUnusable) as error:
        proxy_arguments(settings.gateway)
    assert "hush" not in str(error.value)
