"""`byoc collector check`: each rule's work on each series is said, and what it says is what the collector does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from collector.app import CollectorService
from collector.cli import app
from collector.errors import PolicyRefused
from collector.settings import load_collector_settings
from kernel.clock import SystemClock
from kernel.errors import InvalidInput, NotFound
from tests.collector.policy_world import policy_text, signing_key
from tests.collector.world import Page, run_gateway, run_target, static_job, until, write_config

BODY = b"""# TYPE milvus_rows gauge
milvus_rows{node_id="1",db_name="shop",pod="a"} 1
milvus_rows{node_id="2",db_name="shop",pod="b",job="own"} 2
milvus_twin{x="1"} 1
milvus_twin{x="2"} 2
milvus_gone 1
private{node_id="1"} 3
"""
RULES = [
    {"regex": "pod", "action": "labeldrop"},
    {"source_labels": ["__name__"], "regex": "milvus_gone", "action": "drop"},
    {"source_labels": ["node_id"], "target_label": "component", "replacement": "node-$1", "regex": "(.+)"},
]


def run(config: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["check", "-c", str(config), *options])


def config_of(folder: Path, url: str = "https://g.example", port: int = 1, **fields: Any) -> Path:
    job = static_job(port, metric_relabel_configs=RULES, **fields)
    return write_config(folder, url, scrape_configs=[job])


def test_a_body_is_checked_rule_by_rule(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(BODY)
    config = config_of(tmp_path)
    shown = run(config, "--body", str(tmp_path / "page"))
    assert shown.exit_code == 0, shown.output
    text = shown.output
    for line in (
        "6 series, 2 leave",
        "target labels: +instance='127.0.0.1:1' +job='milvus'",
        "+exported_job='own' +instance='127.0.0.1:1' +job='milvus'",
        "metric_relabel_configs[0] labeldrop: -pod",
        "metric_relabel_configs[2] replace: +component='node-1'",
        "policy allow[0]: kept component, instance, job, node_id; pseudonym db_name",
        "stays: metric_relabel_configs[1] drop",
        "stays: policy: no rule of allow names it",
        'stays: the policy makes it equal to milvus_twin{x="2"}',
        "milvus_rows\t2\t2\t",
        "private\t1\t0\t1 policy: no rule of allow names it",
    ):
        assert line in text, line
    assert not (tmp_path / "identity").exists()  # nothing is made
    assert not (tmp_path / "spool").exists()
    only = run(config, "--body", str(tmp_path / "page"), "--only", "stays", "--limit", "1").output
    assert "leaves as" not in only
    assert "and 3 more" in only
    document = json.loads(run(config, "--body", str(tmp_path / "page"), "--json").output)
    (page,) = document["targets"]
    assert [one["leaves_as"] is not None for one in page["series"]] == [True, True, False, False, False, False]


def test_limits_are_said(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(BODY)
    failed = run(config_of(tmp_path, label_limit=3), "--body", str(tmp_path / "page"))
    assert failed.exit_code == 1
    assert "the scrape FAILS" in failed.output
    assert "label_limit is 3" in failed.output
    over = run(config_of(tmp_path, sample_limit=1), "--body", str(tmp_path / "page"))
    assert "sample_limit 1: new series over it stay" in over.output
    (tmp_path / "page").write_bytes(b"broken line here\n")
    assert run(config_of(tmp_path), "--body", str(tmp_path / "page")).exit_code == 1


def test_samples_of_times_that_are_not_taken_stay(tmp_path: Path) -> None:
    now_ms = SystemClock().now_ms()
    page = f"milvus_now 1\nmilvus_then 1 {now_ms}\nmilvus_ahead 1 {now_ms + 700_000}\nmilvus_long_ago 1 5\n"
    (tmp_path / "page").write_text(page)
    shown = run(config_of(tmp_path), "--body", str(tmp_path / "page")).output
    assert "4 series, 2 leave" in shown
    assert "stays: dated by the target over 10 minutes ahead" in shown
    assert "stays: dated by the target over 400 days ago" in shown
    trusting = config_of(tmp_path, honor_timestamps=False)
    assert "4 series, 4 leave" in run(trusting, "--body", str(tmp_path / "page")).output


async def test_it_says_what_the_collector_does(tmp_path: Path) -> None:
    import asyncio

    async with (
        run_gateway(tmp_path) as gateway,
        run_target(Page(BODY)) as port,
        run_target(Page(status=500)) as bad,
    ):
        job = static_job(port, bad, metric_relabel_configs=RULES, params={"token": ["s3cr3t"]})
        config = write_config(tmp_path, gateway.url, scrape_configs=[job])
        collector = CollectorService(load_collector_settings(config))
        await collector.start()
        await until(lambda: any(row[0].startswith("milvus_rows") for row in gateway.rows()))
        await collector.service.shutdown()
        content = yaml.safe_load(config.read_text())
        content["global"] = {"scrape_interval": "20s", "scrape_timeout": "20s"}  # this machine may be busy
        config.write_text(yaml.safe_dump(content))
        result = await asyncio.to_thread(run, config, "--json")
        one = await asyncio.to_thread(run, config, "--target", f":{port}/")
    assert result.exit_code == 1  # one target is down
    assert "s3cr3t" not in result.output
    assert one.exit_code == 0
    pages = json.loads(result.output)["targets"]
    said = {series["leaves_as"] for page in pages for series in page["series"]} - {None}
    sent = {series for series, _, _ in gateway.rows() if series.startswith("milvus")}
    assert said == sent
    assert [page["error"] for page in pages] == [None, "HTTP status 500; 200 is expected"]


def test_what_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert isinstance(run(config, "--job", "other").exception, NotFound)
    assert isinstance(run(config, "--target", "nowhere").exception, NotFound)
    assert isinstance(run(config, "--body", str(tmp_path / "absent")).exception, InvalidInput)
    signing_key(tmp_path)
    (tmp_path / "policy.yaml").write_text(policy_text(version=1))
    content = yaml.safe_load(config.read_text())
    content["policy_file"] = {"path": "policy.yaml", "mode": "signed", "public_key": "policy.pub"}
    config.write_text(yaml.safe_dump(content))
    assert isinstance(run(config).exception, PolicyRefused)
    config.write_text("scrape_configs: 3\n")
    assert isinstance(run(config).exception, InvalidInput)
