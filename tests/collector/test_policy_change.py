"""Another policy at run time: nothing newly forbidden leaves after it but its end, nothing else is hurt."""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from collector.app import CollectorService
from collector.left_read import LeftReader
from collector.policy_file import sign
from collector.settings import load_collector_settings
from tests.collector.policy_world import policy_text, signing_key
from tests.collector.world import Page, Rows, run_gateway, run_target, static_job, until, write_config

PAGE = b'milvus_rows{node_id="7",zone="z"} 1\nmilvus_secret{node_id="7"} 2\nother 3\n'
RELOAD = {"interval": "50ms"}


def of(rows: Rows, name: str) -> list[tuple[str, int, float]]:
    return [row for row in rows if row[0].partition("{")[0] == name]


def failed(rows: Rows) -> set[int]:
    """When pages were not there in time, as they are on a busy machine: their series end then, by no policy."""
    return {at_ms for _, at_ms, value in of(rows, "up") if value == 0}


async def test_a_changed_file_holds_at_once_and_ends_what_it_forbids(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy_text())
    async with run_gateway(tmp_path) as gateway, run_target(Page(PAGE)) as port:
        config = write_config(
            tmp_path,
            gateway.url,
            scrape_configs=[static_job(port)],
            policy_file={"path": "policy.yaml"},
            reload=RELOAD,
        )
        collector = CollectorService(load_collector_settings(config), config=config)
        await collector.start()
        await until(lambda: len(of(gateway.rows(), "milvus_secret")) >= 3)
        policy.write_text(policy_text(drop=["milvus_secret", "scrape_*"]))
        await until(lambda: collector.metrics.policy_changes._value.get() == 2)
        changed_ms = collector.clock.now_ms()
        await until(lambda: len([row for row in of(gateway.rows(), "milvus_rows") if row[1] > changed_ms]) >= 3)
        policy.write_text(policy_text(drop="no list"))
        await until(lambda: "drop" in (collector.service.notes["settings"]() or ""))
        seen = len(of(gateway.rows(), "milvus_rows"))
        await until(lambda: len(of(gateway.rows(), "milvus_rows")) > seen + 2)
        assert collector.service.not_ready() == {}
        assert collector.metrics.reload_failed._value.get() == 1
        policy.write_text(policy_text())
        await until(lambda: of(gateway.rows(), "milvus_secret")[-1][2] == 2)
        assert collector.service.notes["settings"]() is None
        await collector.service.shutdown()
    late = failed(gateway.rows())
    for name in ("milvus_secret", "scrape_samples_scraped"):
        values = [value for _, at_ms, value in of(gateway.rows(), name) if at_ms not in late]
        (end, *_) = [at for at, value in enumerate(values) if math.isnan(value)]
        after = [row for row in of(gateway.rows(), name) if row[1] not in late][end + 1 :]
        assert all(row[1] > changed_ms + 100 for row in after)  # under the last policy, not before
    rows = [value for _, at_ms, value in of(gateway.rows(), "milvus_rows") if at_ms not in late]
    assert not any(map(math.isnan, rows[:-1]))  # no other series had a gap; the last is the shutdown
    reader = LeftReader(collector.shipping.ledger.path)
    changes = [event["changes"] for event in reader.events() if event["kind"] == "policy"]
    assert changes[1:] == [["drop: +milvus_secret +scrape_*"], ["drop: -milvus_secret -scrape_*"]]
    assert reader.verify().findings == []
    reader.close()


async def test_a_signed_file_that_does_not_hold_stops_shipping_not_scraping(tmp_path: Path) -> None:
    key, policy = signing_key(tmp_path), tmp_path / "policy.yaml"
    first = policy_text(version=1).encode()
    policy.write_bytes(first + sign(first, key))
    async with run_gateway(tmp_path) as gateway, run_target(Page(PAGE)) as port:
        config = write_config(
            tmp_path,
            gateway.url,
            scrape_configs=[static_job(port)],
            policy_file={"path": "policy.yaml", "mode": "signed", "public_key": "policy.pub"},
            reload=RELOAD,
        )
        collector = CollectorService(load_collector_settings(config), config=config)
        await collector.start()
        await until(lambda: len(of(gateway.rows(), "milvus_rows")) >= 2)
        assert collector.service.not_ready() == {}
        policy.write_bytes(first + b"# more\n" + sign(first, key))
        await until(lambda: "changed after it was signed" in collector.service.not_ready().get("shipping", ""))
        sent, spooled = len(gateway.requests), collector.shipping.spool.last_sequence
        await until(lambda: collector.shipping.spool.last_sequence >= spooled + 4)
        assert len(gateway.requests) <= sent + 1  # the one that was under way
        assert collector.metrics.registry.get_sample_value("byoc_collector_shipping_stopped") == 1
        second = policy_text(version=2, drop=["milvus_secret"]).encode()
        policy.write_bytes(second + sign(second, key))
        await until(lambda: collector.service.not_ready() == {})
        await until(lambda: len(of(gateway.rows(), "milvus_rows")) >= 8)
        await collector.service.shutdown()
    for lane in {one.push.lane for one in gateway.taken}:
        sequences = [one.push.sequence for one in gateway.taken if one.push.lane is lane]
        assert sequences == list(range(1, len(sequences) + 1))  # what was spooled meanwhile came after all
    reader = LeftReader(collector.shipping.ledger.path)
    kinds = [(event["kind"], event.get("stopped")) for event in reader.events()]
    assert kinds == [("policy", None), ("shipping", True), ("policy", None), ("shipping", False)]
    reader.close()


async def test_without_any_accepted_policy_nothing_is_spooled_until_there_is_one(tmp_path: Path) -> None:
    key, policy = signing_key(tmp_path), tmp_path / "policy.yaml"
    policy.write_text(policy_text(version=1))
    async with run_gateway(tmp_path) as gateway, run_target(Page(PAGE)) as port:
        config = write_config(
            tmp_path,
            gateway.url,
            scrape_configs=[static_job(port)],
            policy_file={"path": "policy.yaml", "mode": "signed", "public_key": "policy.pub"},
            reload=RELOAD,
        )
        collector = CollectorService(load_collector_settings(config), config=config)
        await collector.start()
        await until(lambda: collector.metrics.scrapes.labels("ok")._value.get() >= 3)
        assert "no policy was accepted before" in collector.service.not_ready()["shipping"]
        assert collector.shipping.spool.last_sequence == 0
        content = policy.read_bytes()
        policy.write_bytes(content + sign(content, key))
        await until(lambda: len(of(gateway.rows(), "milvus_rows")) >= 2)
        await collector.service.shutdown()
    assert gateway.requests


async def test_jobs_that_did_not_change_go_on_and_those_that_did_end(tmp_path: Path) -> None:
    pages = [Page(b"milvus_a %d\n" % number) for number in range(3)]
    async with run_gateway(tmp_path) as gateway, run_target(pages[0]) as one, run_target(pages[1]) as two:
        jobs = [static_job(one, job_name="stays"), static_job(two, job_name="goes")]
        config = write_config(tmp_path, gateway.url, scrape_configs=jobs, reload={"interval": "0"})
        collector = CollectorService(load_collector_settings(config), config=config)
        await collector.start()
        assert collector.pools is not None
        await until(lambda: len(gateway.rows()) >= 30)
        (loop, _), *_ = collector.pools.jobs[0].loops.values()
        content = yaml.safe_load(config.read_text())
        content["scrape_configs"] = [jobs[0], static_job(two, job_name="comes")]
        config.write_text(yaml.safe_dump(content))
        collector.reloader.request()
        await until(lambda: any('job="comes"' in row[0] for row in gateway.rows()))
        assert next(iter(collector.pools.jobs[0].loops.values()))[0] is loop
        content["gateway"]["url"] = "https://elsewhere.example"
        content["scrape_configs"] = []
        config.write_text(yaml.safe_dump(content))
        collector.reloader.request()
        await until(lambda: "gateway.url" in (collector.reloader.problem or ""))
        assert len(collector.pools.jobs) == 2
        rows = gateway.rows()
        await collector.service.shutdown()
    gone = [value for series, _, value in of(rows, "milvus_a") if 'job="goes"' in series]
    assert math.isnan(gone[-1])
    stays = [row for row in rows if 'job="stays"' in row[0]]
    assert not any(math.isnan(value) for _, at_ms, value in stays if at_ms not in failed(stays))
