"""HTTP discovery: the targets that a real Prometheus finds at the same server; bad answers keep the last ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from collector.app import CollectorService
from collector.discovery.http import HttpDiscovery, parse_groups
from collector.scrape.discovery_settings import HttpSdConfig
from collector.settings import load_collector_settings
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from tests.collector.proxy import run_proxy
from tests.collector.world import Page, run_gateway, run_target, serve, until, write_config
from tests.services.fixtures import StartPrometheus

GROUPS = [
    {"targets": ["10.0.0.1:9091", "10.0.0.2:9091"], "labels": {"cluster": "prod", "__meta_datacenter": "x"}},
    {"targets": ["[fd00::1]:80"]},
    {"targets": []},
    {"labels": {"a": "b"}},
]


@dataclass
class Inventory:
    """Answers `groups`; or `body` with `status` and `content_type`."""

    groups: Any = field(default_factory=lambda: GROUPS)
    body: bytes | None = None
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    requests: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        body = self.body if self.body is not None else json.dumps(self.groups).encode()
        return web.Response(body=body, status=self.status, headers={"Content-Type": self.content_type})

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/{tail:.*}", self.answer)])
        return app


def discovery(port: int, **fields: Any) -> HttpDiscovery:
    config = {"url": f"http://127.0.0.1:{port}/sd?zone=a", "refresh_interval": "30s", **fields}
    return HttpDiscovery(HttpSdConfig.model_validate(config), SystemClock())


async def test_a_server_is_asked_as_prometheus_would(tmp_path: Path) -> None:
    inventory = Inventory()
    (tmp_path / "token").write_text("hush\n")
    async with serve(inventory.app()) as port:
        found = discovery(port, authorization={"credentials_file": str(tmp_path / "token")})
        await found.refresh()
        await found.close()
    assert [one.address for one in found.targets] == ["10.0.0.1:9091", "10.0.0.2:9091", "[fd00::1]:80"]
    assert dict(found.targets[0].labels) == {
        "cluster": "prod", "__meta_datacenter": "x", "__meta_url": f"http://127.0.0.1:{port}/sd?zone=a",
    }  # fmt: skip
    headers = inventory.requests[0].headers
    assert headers["Accept"] == "application/json"
    assert headers["X-Prometheus-Refresh-Interval-Seconds"] == "30"
    assert headers["Authorization"] == "Bearer hush"


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 500},
        {"status": 204},
        {"content_type": "text/plain"},
        {"body": b"[{"},
        {"body": b"[null]"},
        {"body": b"{}"},
        {"groups": [{"targets": "h:1"}]},
        {"groups": [{"targets": ["h:1"], "labels": {"no-name": "x"}}]},
        {"groups": [{"targets": ["h:1"], "unknown": 1}]},
        {"groups": [{"targets": [f"h:{number}" for number in range(100_001)]}]},
    ],
)
async def test_a_bad_answer_keeps_the_last_targets(wrong: dict[str, Any]) -> None:
    inventory = Inventory()
    async with serve(inventory.app()) as port:
        found = discovery(port)
        await found.refresh()
        before = found.targets
        for name, value in wrong.items():
            setattr(inventory, name, value)
        await found.refresh()
        assert found.last_error
        assert found.targets is before
        good = Inventory(groups=[{"targets": ["new:1"]}])
        inventory.__dict__.update(good.__dict__)
        await found.refresh()
        await found.close()
    assert [one.address for one in found.targets] == ["new:1"]
    assert found.last_error is None


async def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.discovery.http.MAX_BODY_BYTES", 1000)
    async with serve(Inventory(body=b"[" + b" " * 1000 + b"]").app()) as port:
        found = discovery(port)
        await found.refresh()
        await found.close()
    assert "more than 1000 bytes" in (found.last_error or "")


async def test_a_discovery_goes_through_its_proxy() -> None:
    async with serve(Inventory().app()) as port, run_proxy() as proxy:
        found = discovery(port, proxy_url=proxy.url)
        await found.refresh()
        await found.close()
    assert (len(found.targets), proxy.asked) == (3, [f"GET http://127.0.0.1:{port}/sd?zone=a"])


def test_the_query_of_a_url_is_not_in_errors() -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_groups(b"[1]", "http://h/sd?token=hush")
    assert "hush" not in str(refusal.value)


async def test_found_targets_are_scraped_and_gone_ones_end(tmp_path: Path) -> None:
    inventory = Inventory()
    async with (
        run_gateway(tmp_path) as gateway,
        run_target(Page(b"milvus_a 1\n")) as port,
        serve(inventory.app()) as sd,
    ):
        inventory.groups = [{"targets": [f"127.0.0.1:{port}"]}]
        url = f"http://127.0.0.1:{sd}/"
        job = {"job_name": "j", "http_sd_configs": [{"url": url, "refresh_interval": "50ms"}]}
        config = write_config(tmp_path, gateway.url, scrape_configs=[job])
        collector = CollectorService(load_collector_settings(config))
        await collector.start()

        def values() -> list[float]:
            return [value for series, _, value in gateway.rows() if series.startswith("milvus_a")]

        await until(lambda: len(values()) >= 2)
        inventory.status = 500
        before = len(values())
        await until(lambda: len(values()) >= before + 2)
        inventory.status, inventory.groups = 200, []
        await until(lambda: values()[-1] != values()[-1])  # a stale marker is a NaN
        await collector.service.shutdown()
    assert [value != value for value in values()].count(True) == 1  # noqa: PLR0124


@pytest.mark.services
async def test_targets_and_labels_are_those_of_prometheus(start_prometheus: StartPrometheus) -> None:
    inventory = Inventory(groups=[*GROUPS, {"targets": ["http://to-be-relabelled/path"], "labels": {"x": ""}}])
    async with serve(inventory.app()) as port:
        url = f"http://127.0.0.1:{port}/sd?zone=a"
        rule = {"source_labels": ["__address__"], "regex": "http.*", "action": "drop"}
        config = {
            "scrape_configs": [{"job_name": "j", "http_sd_configs": [{"url": url}], "relabel_configs": [rule]}]
        }
        server = await asyncio.to_thread(start_prometheus, yaml.safe_dump(config))
        theirs: list[dict[str, str]] = []
        async with asyncio.timeout(30):
            while len(theirs) < 4:
                answer = json.loads(await asyncio.to_thread(server.get, "/api/v1/targets"))["data"]
                theirs = [one["discoveredLabels"] for one in answer["activeTargets"] + answer["droppedTargets"]]
        found = discovery(port)
        await found.refresh()
        await found.close()
    added = ("job", "__metrics_path__", "__scheme__", "__scrape_interval__", "__scrape_timeout__")
    assert sorted(sorted((n, v) for n, v in one.items() if n not in added and v) for one in theirs) == sorted(
        sorted((n, v) for n, v in {**one.labels, "__address__": one.address}.items() if v) for one in found.targets
    )
