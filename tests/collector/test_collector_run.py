"""The whole collector in one process, over real HTTP and TLS."""

from __future__ import annotations

from pathlib import Path

from collector.app import CollectorService
from collector.settings import load_collector_settings
from collector.wire.headers import PushLane
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config


async def test_what_is_scraped_arrives_with_up_and_is_listed_as_left(tmp_path: Path) -> None:
    page = Page(lambda number: b'milvus_rows{collection_name="secret-name",node_id="7"} %d\nprivate 1\n' % number)
    async with run_gateway(tmp_path) as gateway, run_target(page) as port:
        config = write_config(tmp_path, gateway.url, scrape_configs=[static_job(port)])
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: sum(one.push.lane is PushLane.BULK for one in gateway.taken) >= 3)
        await collector.service.shutdown()

    names = {series.partition("{")[0] for series, _, _ in gateway.rows()}
    assert names == {
        "milvus_rows",
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    }
    values = [value for series, _, value in gateway.rows() if series.startswith("milvus_rows")]
    assert values[:3] == [1.0, 2.0, 3.0]
    for lane in (PushLane.BILLING, PushLane.BULK):
        sequences = [one.push.sequence for one in gateway.taken if one.push.lane is lane]
        assert sequences == list(range(1, len(sequences) + 1))
    assert b"secret-name" not in gateway.wire
    assert b"private" not in gateway.wire
    left = {family.name: family for family in collector.shipping.ledger.families()}
    assert left["milvus_rows"].samples == len(values)
    assert left["milvus_rows"].series == 1
