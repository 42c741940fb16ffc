"""Targets behind TLS, credentials in files, redirects and a proxy: real servers, real handshakes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from collector.app import CollectorService
from collector.errors import ScrapeFailed
from collector.scrape.fetch import Fetcher
from collector.scrape.settings import GlobalSettings
from collector.scrape.target import Discovered, make_targets
from collector.settings import load_collector_settings
from collector.wire.headers import PushLane
from kernel.errors import InvalidInput
from tests.collector.proxy import run_proxy
from tests.collector.world import Page, run_gateway, run_target, serve, until, write_config


@dataclass
class Authorities:
    """`right` signed the target; `wrong` did not."""

    folder: Path
    right: trustme.CA
    wrong: trustme.CA

    def server(self, name: str, *, mutual: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.right.issue_cert(name).configure_cert(context)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            self.right.configure_trust(context)
        return context

    def client_files(self, authority: trustme.CA) -> dict[str, str]:
        issued = authority.issue_cert("collector@example.test")
        issued.cert_chain_pems[0].write_to_path(self.folder / "client.pem")
        issued.private_key_pem.write_to_path(self.folder / "client-key.pem")
        return {"cert_file": "client.pem", "key_file": "client-key.pem"}


@pytest.fixture(scope="session")
def authorities_of_session() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def authorities(tmp_path: Path, authorities_of_session: tuple[trustme.CA, trustme.CA]) -> Authorities:
    right, wrong = authorities_of_session
    right.cert_pem.write_to_path(tmp_path / "right.pem")
    wrong.cert_pem.write_to_path(tmp_path / "wrong.pem")
    return Authorities(tmp_path, right, wrong)


@dataclass
class MeetingPage(Page):
    """Remembers by what names its clients came."""

    met: list[Any] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.met.append((request.get_extra_info("peercert") or {}).get("subjectAltName"))
        return await super().answer(request)


@asynccontextmanager
async def tls_target(page: Page, context: ssl.SSLContext) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes([web.get("/{tail:.*}", page.answer)])
    async with serve(app, context) as port:
        yield port


async def scrape(folder: Path, address: str, **fields: Any) -> bytes:
    """One page, with the settings read from a file as `run` reads them. Raises ScrapeFailed."""
    job = {"job_name": "j", "static_configs": [{"targets": [address]}], **fields}
    settings = load_collector_settings(write_config(folder, "https://g.example", scrape_configs=[job]))
    (config,) = settings.scrape_configs
    (target,) = make_targets(config, GlobalSettings(), [Discovered(address, {})])
    fetcher = Fetcher(config)
    try:
        return bytes((await fetcher.fetch(target)).body)
    finally:
        await fetcher.close()


async def test_a_target_is_believed_by_its_authority(authorities: Authorities, tmp_path: Path) -> None:
    async with tls_target(Page(b"a 1\n"), authorities.server("localhost")) as port:
        tls = {"ca_file": "right.pem"}
        assert await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls) == b"a 1\n"
        for distrust in ({"ca_file": "wrong.pem"}, {}):
            with pytest.raises(ScrapeFailed, match="certificate verify failed"):
                await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=distrust)


async def test_the_name_in_the_certificate_is_the_hosts_or_server_name(
    authorities: Authorities, tmp_path: Path
) -> None:
    async with tls_target(Page(b"a 1\n"), authorities.server("milvus.internal")) as port:
        with pytest.raises(ScrapeFailed, match="not valid for 'localhost'"):
            await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config={"ca_file": "right.pem"})
        tls = {"ca_file": "right.pem", "server_name": "milvus.internal"}
        assert await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls) == b"a 1\n"
        tls["server_name"] = "other.internal"
        with pytest.raises(ScrapeFailed, match=r"not valid for 'other\.internal'"):
            await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls)


async def test_insecure_skip_verify_believes_anybody(authorities: Authorities, tmp_path: Path) -> None:
    async with tls_target(Page(b"a 1\n"), authorities.server("milvus.internal")) as port:
        tls = {"insecure_skip_verify": True}
        assert await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls) == b"a 1\n"


async def test_a_target_that_asks_for_a_certificate_gets_ours(authorities: Authorities, tmp_path: Path) -> None:
    page = MeetingPage(b"a 1\n")
    async with tls_target(page, authorities.server("localhost", mutual=True)) as port:
        tls = {"ca_file": "right.pem", **authorities.client_files(authorities.right)}
        assert await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls) == b"a 1\n"
        assert page.met == [(("email", "collector@example.test"),)]
        with pytest.raises(ScrapeFailed, match=r"wants a client certificate, set tls_config\.cert_file"):
            await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config={"ca_file": "right.pem"})
        tls = {"ca_file": "right.pem", **authorities.client_files(authorities.wrong)}
        with pytest.raises(ScrapeFailed, match=r"may not accept the client certificate"):
            await scrape(tmp_path, f"localhost:{port}", scheme="https", tls_config=tls)


async def test_changed_tls_files_hold_from_the_next_scrape_and_hurt_none_that_is_under_way(
    authorities: Authorities, tmp_path: Path
) -> None:
    files = authorities.client_files(authorities.right)
    (tmp_path / "ca.pem").write_bytes((tmp_path / "right.pem").read_bytes())
    held, release = asyncio.Event(), asyncio.Event()

    class SlowPage(MeetingPage):
        async def answer(self, request: web.Request) -> web.Response:
            answer = await super().answer(request)
            if self.scrapes == 1:
                held.set()
                await release.wait()
            return answer

    async with tls_target(SlowPage(b"a 1\n"), authorities.server("localhost", mutual=True)) as port:
        job: dict[str, Any] = {"job_name": "j", "scheme": "https", "tls_config": {"ca_file": "ca.pem", **files}}
        job["static_configs"] = [{"targets": [f"localhost:{port}"]}]
        settings = load_collector_settings(write_config(tmp_path, "https://g.example", scrape_configs=[job]))
        fetcher = Fetcher(settings.scrape_configs[0])
        (target,) = make_targets(
            settings.scrape_configs[0], GlobalSettings(), [Discovered(f"localhost:{port}", {})]
        )
        first = await fetcher.open()
        slow = asyncio.create_task(fetcher.fetch(target))
        await held.wait()
        (tmp_path / "ca.pem").write_bytes((tmp_path / "wrong.pem").read_bytes())
        assert await fetcher.open() is not first
        with pytest.raises(ScrapeFailed, match="certificate verify failed"):
            await fetcher.fetch(target)
        release.set()
        assert (await slow).body == b"a 1\n"
        (tmp_path / "ca.pem").write_text("junk")
        old = await fetcher.open()
        (tmp_path / "ca.pem").write_bytes((tmp_path / "right.pem").read_bytes())
        assert await fetcher.open() is not old
        same = await fetcher.open()
        authorities.client_files(authorities.right)
        assert await fetcher.open() is not same
        assert (await fetcher.fetch(target)).body == b"a 1\n"
        await fetcher.close()


@pytest.mark.parametrize(
    ("tls", "where"),
    [
        ({"ca_file": "gone.pem"}, "tls_config.ca_file"),
        ({"ca_file": "client-key.pem"}, "tls_config.ca_file"),
        ({"ca_file": "x" * 5000}, "tls_config.ca_file"),
        ({"cert_file": "right.pem", "key_file": "client-key.pem"}, "tls_config.cert_file"),
        ({"cert_file": "client.pem", "key_file": "client.pem"}, "tls_config.cert_file"),
    ],
)
async def test_tls_files_that_are_none_are_named_before_anything_runs(
    authorities: Authorities, tmp_path: Path, tls: dict[str, str], where: str
) -> None:
    authorities.client_files(authorities.right)
    with pytest.raises(InvalidInput) as refusal:
        await scrape(tmp_path, "localhost:1", scheme="https", tls_config=tls)
    assert refusal.value.findings[0].where.startswith(where)


async def test_a_target_of_a_wrong_authority_is_down_with_the_reason(
    authorities: Authorities, tmp_path: Path
) -> None:
    async with run_gateway(tmp_path) as gateway, tls_target(Page(), authorities.server("localhost")) as port:
        job = {
            "job_name": "j",
            "scheme": "https",
            "static_configs": [{"targets": [f"localhost:{port}"]}],
            "tls_config": {"ca_file": "wrong.pem"},
        }
        settings = load_collector_settings(write_config(tmp_path, gateway.url, scrape_configs=[job]))
        collector = CollectorService(settings)
        await collector.start()
        await until(lambda: {one.push.lane for one in gateway.taken} == {PushLane.BILLING, PushLane.BULK})
        assert collector.pools is not None
        ((loop, _),) = collector.pools.jobs[0].loops.values()
        reason = loop.last_error
        await collector.service.shutdown()
    assert "certificate verify failed" in (reason or "")
    values: dict[str, float] = {}
    for series, _, value in gateway.rows():
        values.setdefault(series.partition("{")[0], value)
    assert values["up"] == 0.0
    assert values["scrape_samples_scraped"] == 0.0


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"bearer_token_file": "secret"}, "Bearer {}"),
        ({"authorization": {"credentials_file": "secret"}}, "Bearer {}"),
        ({"authorization": {"type": "Token", "credentials_file": "secret"}}, "Token {}"),
    ],
)
async def test_credentials_in_a_file_are_read_at_every_scrape(
    tmp_path: Path, fields: dict[str, Any], header: str
) -> None:
    page = Page()
    async with run_target(page) as port:
        for secret in ("one", "two"):
            (tmp_path / "secret").write_text(f"{secret}\n")
            await scrape(tmp_path, f"127.0.0.1:{port}", **fields)
        assert [one.headers["Authorization"] for one in page.requests] == [
            header.format("one"),
            header.format("two"),
        ]
        (tmp_path / "secret").unlink()
        with pytest.raises(ScrapeFailed, match="secret"):
            await scrape(tmp_path, f"127.0.0.1:{port}", **fields)


async def test_a_password_file_is_read_beside_the_settings_file(tmp_path: Path) -> None:
    page = Page()
    (tmp_path / "password").write_text("pä:ss\n")
    async with run_target(page) as port:
        await scrape(tmp_path, f"127.0.0.1:{port}", basic_auth={"username": "u", "password_file": "password"})
    assert page.requests[0].headers["Authorization"] == "Basic dTpww6Q6c3M="


async def test_redirects_are_followed_unless_told_not_to(tmp_path: Path) -> None:
    page = Page(b"a 1\n")

    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/moved"})

    app = web.Application()
    app.add_routes([web.get("/metrics", elsewhere), web.get("/moved", page.answer)])
    async with serve(app) as port:
        assert await scrape(tmp_path, f"127.0.0.1:{port}") == b"a 1\n"
        with pytest.raises(ScrapeFailed, match="HTTP status 302"):
            await scrape(tmp_path, f"127.0.0.1:{port}", follow_redirects=False)
    assert page.scrapes == 1


async def test_a_redirect_to_another_host_does_not_carry_the_credentials_there(tmp_path: Path) -> None:
    page = Page(b"a 1\n")
    async with run_target(page) as other:

        async def elsewhere(request: web.Request) -> web.Response:
            assert request.headers["Authorization"] == "Bearer hush"
            return web.Response(status=302, headers={"Location": f"http://127.0.0.1:{other}/"})

        app = web.Application()
        app.add_routes([web.get("/metrics", elsewhere)])
        async with serve(app) as port:
            assert await scrape(tmp_path, f"127.0.0.1:{port}", bearer_token="hush") == b"a 1\n"
    assert "Authorization" not in page.requests[0].headers


async def test_a_proxy_carries_the_scrape_in_the_clear_or_in_a_tunnel(
    authorities: Authorities, tmp_path: Path
) -> None:
    page = Page(b"a 1\n")
    tls = {"ca_file": "right.pem", "server_name": "milvus.internal"}
    async with run_proxy() as proxy, run_target(page) as plain:
        way = f"http://u:hush@127.0.0.1:{proxy.port}"
        assert await scrape(tmp_path, f"127.0.0.1:{plain}", proxy_url=way) == b"a 1\n"
        async with tls_target(page, authorities.server("milvus.internal")) as port:
            fields = {"scheme": "https", "tls_config": tls, "proxy_url": way}
            assert await scrape(tmp_path, f"127.0.0.1:{port}", **fields) == b"a 1\n"
    assert proxy.asked == [f"GET http://127.0.0.1:{plain}/metrics", f"CONNECT 127.0.0.1:{port}"]
    assert proxy.credentials == ["Basic dTpodXNo"] * 2
    assert all("Proxy-Authorization" not in request.headers for request in page.requests)


async def test_the_proxy_of_the_environment_is_not_for_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_proxy() as proxy, run_target(Page(b"a 1\n")) as port:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await scrape(tmp_path, f"127.0.0.1:{port}") == b"a 1\n"
    assert proxy.asked == []


@pytest.mark.parametrize("url", ["ftp://p", "socks5://u:hush@p:1", "p:3128", "http://u:hush@:1"])
async def test_a_proxy_url_that_is_none_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await scrape(tmp_path, "127.0.0.1:1", proxy_url=url)
    assert [finding.where for finding in refusal.value.findings] == ["scrape_configs[0].proxy_url"]
    assert "hush" not in str(refusal.value)
