"""Targets: how they are found, relabelled, asked, and given up."""

from __future__ import annotations

import json
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from collector.app import CollectorService
from collector.discovery.files import FileDiscovery, read_target_file
from collector.errors import ScrapeFailed
from collector.scrape.fetch import Fetcher
from collector.scrape.horizon import Horizon
from collector.scrape.settings import FileSdConfig, GlobalSettings, ScrapeConfig
from collector.scrape.target import Discovered, Target, make_targets
from collector.settings import load_collector_settings
from kernel.clock import VirtualClock
from kernel.errors import InvalidInput
from tests.collector.world import Page, run_gateway, run_target, until, write_config


def job(**fields: Any) -> ScrapeConfig:
    return ScrapeConfig.model_validate({"job_name": "j", **fields})


def targets(config: ScrapeConfig, *found: Discovered) -> list[Target]:
    return make_targets(config, GlobalSettings(), found)


def test_a_target_has_job_and_instance_and_the_url_of_its_job() -> None:
    config = job(scheme="https", metrics_path="/m", params={"a": ["1", "2"]}, scrape_interval="5s")
    (target,) = targets(config, Discovered("h:1", {"cluster": "c", "__meta_x": "y"}))
    assert target.url == "https://h:1/m?a=1&a=2"
    assert dict(target.labels) == {"job": "j", "instance": "h:1", "cluster": "c"}
    assert (target.interval_seconds, target.timeout_seconds) == (5, 5)


def test_relabelling_can_change_address_path_and_interval_and_drop() -> None:
    rules = [
        {"source_labels": ["__meta_port"], "regex": "(.+)", "target_label": "__address__", "replacement": "h:$1"},
        {"target_label": "__metrics_path__", "replacement": "federate"},
        {"target_label": "__param_match", "replacement": "x"},
        {"target_label": "__scrape_interval__", "replacement": "1m"},
        {"source_labels": ["__address__"], "regex": "drop:.*", "action": "drop"},
    ]
    found = targets(job(relabel_configs=rules), Discovered("h:1", {"__meta_port": "9"}), Discovered("drop:1", {}))
    assert [(one.url, one.interval_seconds) for one in found] == [("http://h:9/federate?match=x", 60)]


@pytest.mark.parametrize("address", ["h:1/path", "user@h:1", "", "h:port", "h:1?x"])
def test_an_address_that_relabelling_broke_is_left_out(address: str) -> None:
    rule = {"target_label": "__address__", "replacement": address}
    assert targets(job(relabel_configs=[rule]), Discovered("h:1", {})) == []


def test_equal_targets_are_one_and_offsets_are_spread_and_stable() -> None:
    config = job(scrape_interval="10s")
    assert len(targets(config, Discovered("h:1", {}), Discovered("h:1", {}))) == 1
    offsets = [
        one.offset_seconds() for one in targets(config, *(Discovered(f"h:{port}", {}) for port in range(1, 50)))
    ]
    assert all(0 <= offset < 10 for offset in offsets)
    assert len({int(offset) for offset in offsets}) >= 8
    assert offsets[0] == targets(config, Discovered("h:1", {}))[0].offset_seconds()


def test_target_files_in_yaml_and_json_and_a_broken_one_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- targets: ['h:1', 'h:2']\n  labels: {env: prod}\n")
    (tmp_path / "b.json").write_text(json.dumps([{"targets": ["h:3"]}]))
    discovery = FileDiscovery([FileSdConfig(files=(f"{tmp_path}/*.yaml", f"{tmp_path}/b.json"))])
    assert [one.address for one in discovery.refresh()] == ["h:1", "h:2", "h:3"]
    (tmp_path / "a.yaml").write_text("- targets: ['h:1'")
    (tmp_path / "b.json").unlink()
    found = discovery.refresh()
    assert [(one.address, one.labels["env"]) for one in found] == [("h:1", "prod"), ("h:2", "prod")]


@pytest.mark.parametrize(
    "content", ["targets: x", "- targets: ['http://x']", "- {}x", "- targets: [1]", "- {other: 1}"]
)
def test_a_wrong_target_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InvalidInput, match=r"a\.yaml"):
        read_target_file(tmp_path / "a.yaml")


async def fetch(page: Page, **fields: Any) -> str:
    config = job(**fields)
    async with run_target(page) as port:
        fetcher = Fetcher(config)
        try:
            (target,) = make_targets(config, GlobalSettings(), [Discovered(f"127.0.0.1:{port}", {})])
            got = await fetcher.fetch(target)
            text = f"{got.body.decode()}|{got.content_type}"
            fetcher.done(got)
            return text
        finally:
            await fetcher.close()


async def test_a_page_is_asked_for_as_prometheus_would(tmp_path: Path) -> None:
    page = Page(b"a 1\n")
    (tmp_path / "p").write_text("pass\n")
    assert await fetch(page, basic_auth={"username": "u", "password_file": str(tmp_path / "p")}) == (
        "a 1\n|text/plain; version=0.0.4"
    )
    headers = page.requests[0].headers
    assert headers["Authorization"] == "Basic dTpwYXNz"
    assert headers["Accept"].startswith("application/openmetrics-text;version=1.0.0")
    assert headers["X-Prometheus-Scrape-Timeout-Seconds"] == "10"
    await fetch(page, bearer_token="t")
    assert page.requests[1].headers["Authorization"] == "Bearer t"
    await fetch(page, authorization={"type": "Custom", "credentials": "c"})
    assert page.requests[2].headers["Authorization"] == "Custom c"


async def test_a_page_over_the_limit_or_with_another_status_fails_the_scrape() -> None:
    with pytest.raises(ScrapeFailed, match="body_size_limit 10 bytes"):
        await fetch(Page(b"x" * 11), body_size_limit=10)
    assert await fetch(Page(b"x" * 10), body_size_limit=10)
    with pytest.raises(ScrapeFailed, match="HTTP status 404"):
        await fetch(Page(status=404))


async def test_a_target_that_goes_silent_comes_back_and_is_removed(tmp_path: Path) -> None:
    page = Page(b"milvus_a 1\n")
    async with run_gateway(tmp_path) as gateway, run_target(page) as port:
        file = tmp_path / "targets.yaml"
        file.write_text(f"- targets: ['127.0.0.1:{port}']\n")
        scrape = {"job_name": "j", "file_sd_configs": [{"files": ["targets.yaml"], "refresh_interval": "50ms"}]}
        collector = CollectorService(
            load_collector_settings(write_config(tmp_path, gateway.url, scrape_configs=[scrape]))
        )
        await collector.start()

        def values(name: str) -> list[float]:
            return [value for series, _, value in gateway.rows() if series.startswith(name)]

        await until(lambda: len(values("up")) >= 2)
        page.status = 500
        await until(lambda: 0.0 in values("up"))
        page.status = 200
        await until(lambda: values("up")[-1] == 1.0)
        file.write_text("[]")
        # A stale marker is a NaN; the two lanes are shipped apart.
        await until(lambda: all(isnan(values(name)[-1]) for name in ("up", "milvus_a")))
        rows = gateway.rows()
        await collector.service.shutdown()
    ends = [isnan(value) for value in values("milvus_a")]
    *ups, end = values("up")
    assert isnan(end)
    # Also of a page that was not there in time, as on a busy machine.
    failures = sum(before == 1 and after == 0 for before, after in pairwise(ups))
    assert (ends.count(True), ends[-1]) == (failures + (ups[-1] == 1), True)
    assert len(gateway.rows()) == len(rows)  # an end that was told is not told again


def test_the_horizon_waits_for_the_slowest_scrape_and_never_falls() -> None:
    clock = VirtualClock()
    start = clock.now_ms()
    horizon = Horizon(clock)
    slow, quick = horizon.begin(start), horizon.begin(start + 5)
    assert horizon.complete(quick) == start
    clock.step_wall(10)
    late = horizon.begin(start + 10_000)
    assert horizon.complete(slow) == start + 10_000
    clock.step_wall(-3600)
    assert horizon.complete(late) == start + 10_000
