"""The whole service on the machine's clock, and the commands that look at what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from alerts.api import AlertService
from alerts.cli import app
from console.migrate import migrate
from kernel.clock import SystemClock
from kernel.database import metadata
from kernel.deployment import Deployment
from kernel.errors import InvalidInput, NotFound
from kernel.ids import ProjectId, Tenant
from kernel.log import Log
from kernel.service import Service
from metering.record import LIVE_TOPIC, BatchHeader, Lane, encode_record, make_batch
from tests.alerts.receiver import SECRET, Receiver
from tests.alerts.world import COLLECTOR, ORG_A, rules

CLOCK = SystemClock()
VENDOR_YAML = """
deployment: {{folder: {folder}}}
alerts:
  rule_files: [{folder}/rules.yaml]
  builtin_rules: false
  allow_private_receivers: true
  poll_seconds: 0.05
  watermark_wait_seconds: 0
  receivers: [{{name: oncall, url: '{url}', secret: {secret}}}]
"""


@pytest.fixture
def deployment(tmp_path: Path, receiver: Receiver) -> Deployment:
    (tmp_path / "rules.yaml").write_text(rules())
    path = tmp_path / "vendor.yaml"
    path.write_text(VENDOR_YAML.format(folder=tmp_path, url=receiver.url, secret=SECRET))
    deployment = Deployment.from_file(path)
    migrate(deployment.database())
    return deployment


async def until(condition: Callable[[], bool]) -> None:
    deadline = CLOCK.monotonic() + 60
    while not condition():
        assert CLOCK.monotonic() < deadline
        await asyncio.sleep(0.01)


async def send(log: Log, value: float) -> None:
    now_ms = CLOCK.now_ms()
    series = (("__name__", "temperature"), ("organization", "org-a"), ("room", "attic"))
    header = BatchHeader(ORG_A, COLLECTOR, Lane.BILLING, now_ms, "", complete_through_ms=now_ms)
    writer = await log.writer()
    await writer.append(LIVE_TOPIC, [encode_record(header, make_batch([(series, now_ms, value)]))])


async def test_the_service_pages_and_the_commands_show_it(deployment: Deployment, receiver: Receiver) -> None:
    log = await deployment.log()
    await log.ensure_topics({LIVE_TOPIC: 2})
    service = Service("test", CollectorRegistry(), stop_seconds=5)
    alerts = await AlertService.open(deployment, service.registry)
    assert alerts.ruler.not_ready()
    alerts.attach(service)
    running = asyncio.create_task(service.run())
    await until(lambda: not service.not_ready())
    await send(log, 35)
    await until(lambda: len(receiver.taken) == 1)
    await until(lambda: _count(deployment, "alert_attempts") == 1)
    assert service.registry.get_sample_value("byoc_alerts_transitions_total", {"state": "firing"}) == 1
    [listed] = run(deployment, "list", "--json", "--organization", "org-a")
    assert (listed["state"], listed["alert"], listed["value"]) == ("firing", "Hot", "35")
    [attempt] = run(deployment, "deliveries", "--json", "--receiver", "oncall")
    assert (attempt["outcome"], attempt["webhook_id"]) == ("delivered", receiver.taken[0].webhook_id)
    [state] = run(deployment, "receivers", "--json")
    assert (state["state"], state["waiting"]) == ("well", 0)
    service.stop()
    await running
    await deployment.close()


async def test_the_service_waits_for_a_log_without_topics(deployment: Deployment, receiver: Receiver) -> None:
    """Whoever creates the topic may come later."""
    log = await deployment.log()
    alerts = await AlertService.open(deployment)
    running = asyncio.create_task(alerts.run())
    await asyncio.sleep(0.05)
    await log.ensure_topics({LIVE_TOPIC: 2})
    await until(lambda: alerts.ruler.not_ready() is None)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await deployment.close()


def _count(deployment: Deployment, name: str) -> int:
    import sqlalchemy as sa

    table = metadata.tables[name]
    return deployment.database().transact(
        lambda connection: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
    )


def run(deployment: Deployment, *words: str) -> list[Any]:
    result = CliRunner().invoke(app, list(words), obj=deployment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()] if "--json" in words else [result.output]


def fail(deployment: Deployment, *words: str) -> BaseException:
    result = CliRunner().invoke(app, list(words), obj=deployment)
    assert result.exception is not None
    return result.exception


def test_check_names_the_line(deployment: Deployment, tmp_path: Path) -> None:
    assert "1 rules in 1 groups; 1 receivers" in run(deployment, "check")[0]
    bad = tmp_path / "bad.yaml"
    bad.write_text("groups:\n  - name: g\n    rules: [{alert: A, expr: 'topk(1, x)'}]\n")
    refused = fail(deployment, "check", str(bad))
    assert isinstance(refused, InvalidInput)
    assert "line 3" in str(refused)


def test_commands_on_nothing_say_so(deployment: Deployment) -> None:
    assert run(deployment, "list")[0] == "none\n"
    assert run(deployment, "deliveries")[0] == "none\n"
    assert "oncall" in run(deployment, "receivers")[0]
    assert isinstance(fail(deployment, "enable", "oncall"), NotFound)
    assert isinstance(fail(deployment, "forget", "org-a/project-1", "collector-1"), NotFound)
    assert isinstance(fail(deployment, "forget", "Not/An id", "collector-1"), InvalidInput)
    assert str(Tenant(ORG_A.organization, ProjectId("project-1"))) == "org-a/project-1"
