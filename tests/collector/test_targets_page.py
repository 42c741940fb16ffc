"""/targets: every target with its health, what was left out and why; nothing in it runs, and no secret is in it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp

from collector.app import CollectorService
from collector.settings import load_collector_settings
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


async def get(port: int, path: str, accept: str = "text/html") -> tuple[str, aiohttp.ClientResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept}) as response,
    ):
        return await response.text(), response


async def test_the_page_and_its_json(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cr3t-password")
    async with run_gateway(tmp_path) as gateway, run_target(Page()) as good, run_target(Page(status=500)) as bad:
        job = static_job(
            good,
            bad,
            params={"token": ["s3cr3t-query"]},
            basic_auth={"username": "s3cr3t-user", "password_file": "password"},
            relabel_configs=[
                {"source_labels": ["keep"], "regex": "no", "action": "drop"},
                {"source_labels": ["broken"], "regex": "yes", "target_label": "__scheme__", "replacement": "ftp"},
            ],
        )
        targets = [f"127.0.0.1:{good}", f"127.0.0.1:{bad}"]
        job["static_configs"] = [
            {"targets": targets, "labels": {"owner": EVIL}},
            {"targets": ["dropped.example:1"], "labels": {"keep": "no", "why": EVIL}},
            {"targets": ["broken.example:1"], "labels": {"broken": "yes"}},
        ]
        proxied = static_job(1, job_name="proxied", proxy_url="http://s3cr3t-user:s3cr3t-password@127.0.0.1:1")
        config = write_config(tmp_path, gateway.url, scrape_configs=[job, proxied])
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        assert collector.pools is not None
        pools = collector.pools.jobs
        await until(
            lambda: [bool(loop.last_scrape_ms) for one in pools for loop, _ in one.loops.values()] == [True] * 3
        )
        html, response = await get(collector.health_port, "/targets")
        text, _ = await get(collector.health_port, "/targets", "application/json")
        again, _ = await get(collector.health_port, "/api/v1/targets")
        document = await _json(collector.health_port)
        await collector.service.shutdown()
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    tags = Tags()
    tags.feed(html)
    assert not tags.seen & {"script", "img", "iframe", "form"}
    assert not any(name.startswith("on") for name in tags.attributes)
    assert "1 of 3 up" in html
    assert "HTTP status 500" in html
    for shown in (html, text, again):
        assert "s3cr3t" not in shown
        assert "token" in shown  # the name of the parameter
    active = {target["scrapeUrl"].split("?")[0]: target for target in document["data"]["activeTargets"]}
    up = active[f"http://127.0.0.1:{good}/metrics"]
    assert (up["health"], up["lastSamples"], up["labels"]["owner"], up["lastError"]) == ("up", 1, EVIL, "")
    assert up["discoveredLabels"]["__address__"] == f"127.0.0.1:{good}"
    assert active[f"http://127.0.0.1:{bad}/metrics"]["health"] == "down"
    reasons = {one["discoveredLabels"]["__address__"]: one["reason"] for one in document["data"]["droppedTargets"]}
    assert reasons["dropped.example:1"] == "dropped by relabel_configs"
    assert "ftp" in reasons["broken.example:1"]


async def _json(port: int) -> Any:
    text, _ = await get(port, "/targets?format=json")
    return json.loads(text)
