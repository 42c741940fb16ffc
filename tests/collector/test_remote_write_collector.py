"""The whole collector with a receiver beside the gateway: what leaves, and nothing else, goes there too."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from collector.app import CollectorService
from collector.cli import app
from collector.exposition.protobuf import ACCEPTED
from collector.left_read import LeftReader
from collector.settings import load_collector_settings
from tests.collector.client_messages import COUNTER, HISTOGRAM, delimited
from tests.collector.receiver import Receiver, labels_of, run_receiver
from tests.collector.test_protobuf import NATIVE, family, label_pairs
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config
from tests.services.fixtures import StartPrometheus

QUEUE = {"batch_send_deadline": "0s", "min_backoff": "1ms", "max_backoff": "10ms"}


def config(folder: Path, gateway: str, port: int, *receivers: dict[str, Any], **job: Any) -> CollectorService:
    path = write_config(
        folder,
        gateway,
        scrape_configs=[static_job(port, **job)],
        remote_write=[{"queue_config": QUEUE, **one} for one in receivers],
    )
    return CollectorService(load_collector_settings(path))


async def test_what_goes_to_receivers_is_in_the_ledger_by_receiver(tmp_path: Path) -> None:
    """Also what one of them did not want: it left all the same. And nothing of it counts as the vendor's."""
    receiver, unwilling = Receiver(), Receiver()
    rule = {"source_labels": ["__name__"], "regex": "milvus_a", "target_label": "__name__", "replacement": "mine"}
    async with (
        run_gateway(tmp_path) as gateway,
        run_target(Page(b"milvus_a 1\nmilvus_b 2\n")) as port,
        run_receiver(receiver) as url,
        run_receiver(unwilling) as second,
    ):
        unwilling.script = lambda _: web.Response(status=400)
        first = {"name": "own", "url": url, "write_relabel_configs": [rule]}
        collector = config(tmp_path, gateway.url, port, first, {"name": "unwilling", "url": second})
        await collector.start()
        await until(lambda: len(receiver.rows()) > 20 and len(unwilling.requests) > 2)
        await collector.service.shutdown()
    ledger = LeftReader(tmp_path / "spool" / "left.sqlite")
    try:
        left = {(one.receiver, one.name): one.samples for one in ledger.receivers()}
        families = {one.name for one in ledger.families()}
        assert ledger.verify().findings == []
    finally:
        ledger.close()
    went = Counter(labels_of(name)["__name__"] for name, _, _ in receiver.rows())
    counted = {name: count for (one, name), count in left.items() if one == "own"}
    assert counted.keys() == went.keys() >= {"mine", "milvus_b", "up"}
    assert all(
        0 <= went[name] - count <= 1 for name, count in counted.items()
    )  # the end cut one off before its answer
    assert left["unwilling", "milvus_a"] > 0
    assert "mine" not in families
    said = CliRunner().invoke(app, ["left", "--receivers", "-c", str(tmp_path / "collector.yaml")]).output
    assert f"own\tmine\t{counted['mine']}\t" in said


async def test_receivers_get_what_the_policy_lets_out(tmp_path: Path) -> None:
    receiver, other = Receiver(), Receiver()
    body = b'# TYPE milvus_a counter\nmilvus_a{collection_name="orders",other="x"} 1\nsecret_b 2\n'
    rule = {"target_label": "team", "replacement": "db"}
    async with (
        run_gateway(tmp_path) as gateway,
        run_target(Page(body)) as port,
        run_receiver(receiver) as url,
        run_receiver(other) as second,
    ):
        collector = config(
            tmp_path, gateway.url, port, {"url": url}, {"url": second, "write_relabel_configs": [rule]}
        )
        await collector.start()
        await until(lambda: len(receiver.rows()) > 20 and len(other.rows()) > 20)
        await collector.service.shutdown()
    series = [labels_of(name) for name, _, _ in receiver.rows()]
    assert {one["__name__"] for one in series} == {
        "milvus_a", "up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added",
        "scrape_samples_post_metric_relabeling",
    }  # fmt: skip
    ours = next(one for one in series if one["__name__"] == "milvus_a")
    assert ours["collection_name"].startswith("p-")
    assert "other" not in ours
    assert "team" not in ours
    assert {labels_of(name)["team"] for name, _, _ in other.rows()} == {"db"}


async def test_series_end_with_stale_markers_there_too_after_the_next_start(tmp_path: Path) -> None:
    receiver = Receiver()
    page = Page(b"milvus_a 1\n")
    async with run_gateway(tmp_path) as gateway, run_target(page) as port, run_receiver(receiver) as url:
        collector = config(tmp_path, gateway.url, port, {"url": url})
        await collector.start()
        await until(lambda: len(receiver.rows()) > 10)
        await collector.service.shutdown()
        again = config(tmp_path, gateway.url, port, {"url": url})
        await again.start()
        await until(lambda: any(value != value for _, _, value in receiver.rows()))  # noqa: PLR0124
        await again.service.shutdown()


async def test_histograms_of_a_protobuf_page_are_asked_for_and_reach_the_receiver(tmp_path: Path) -> None:
    exemplar = {"label": label_pairs({"trace_id": "hush"}), "value": 1}
    body = delimited(
        family("milvus_h", HISTOGRAM, {"label": label_pairs({"collection_name": "x"}), "histogram": NATIVE}),
        family("milvus_c", COUNTER, {"counter": {"value": 7, "exemplar": exemplar}}),
    )
    page, receiver = Page(body, ACCEPTED), Receiver()
    async with run_gateway(tmp_path) as gateway, run_target(page) as port, run_receiver(receiver) as url:
        collector = config(tmp_path, gateway.url, port, {"url": url}, scrape_native_histograms=True)
        await collector.start()
        await until(lambda: sum(len(one.histograms) for one in receiver.taken) >= 2)
        await collector.service.shutdown()
    assert page.requests[0].headers["Accept"].startswith("application/vnd.google.protobuf;")
    rows = {labels_of(name)["__name__"]: value for name, _, value in receiver.rows() if value == value}  # noqa: PLR0124
    assert rows["milvus_c"] == 7
    assert "milvus_h" not in rows
    assert not any(one.exemplars for one in receiver.requests)  # the policy names none of their labels


@pytest.mark.services
async def test_a_real_prometheus_stores_histograms_that_came_through_the_collector(
    start_prometheus: StartPrometheus, tmp_path: Path
) -> None:
    flags = ["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"]
    server = await asyncio.to_thread(start_prometheus, "scrape_configs: []", flags)
    page = Page(delimited(family("milvus_h", HISTOGRAM, {"histogram": NATIVE})), ACCEPTED)
    async with run_gateway(tmp_path) as gateway, run_target(page) as port:
        url = f"{server.url}/api/v1/write"
        collector = config(tmp_path, gateway.url, port, {"url": url}, scrape_native_histograms=True)
        await collector.start()
        found: list[Any] = []
        async with asyncio.timeout(30):
            while not found:
                answer = json.loads(await asyncio.to_thread(server.get, "/api/v1/query?query=milvus_h"))
                found = answer["data"]["result"]
                await asyncio.sleep(0.1)
        await collector.service.shutdown()
    assert (found[0]["histogram"][1]["count"], found[0]["histogram"][1]["sum"]) == ("12", "-3.25")
