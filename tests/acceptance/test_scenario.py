"""The product, end to end, twice: embedded in one folder, and on Kafka, S3 and PostgreSQL."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Self

import pypdf
import pytest
import yaml
from standardwebhooks import webhooks
from standardwebhooks.webhooks import Webhook

from console.demo.scenario import run_demo
from tests.services.kafka import KafkaServer
from tests.services.s3 import S3Bucket

HOLD_MINUTES = 5
COMMITTED_VCPU = Decimal(16)
PRICE_PER_VCPU_MINUTE = (Decimal("900.00"), Decimal(365 * 24 * 60))
LICENSED = {"query", "milvus", "index"}


@pytest.fixture(scope="session", autouse=True)
def milvus() -> None:
    """The Milvus environment, made once and kept outside the checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "provisioner.local.install", "2.3.5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=["embedded", "scale_out"])
def base_config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """Nothing for the embedded default; else the `deployment` section with real servers behind each port."""
    if request.param == "embedded":
        return None
    kafka: KafkaServer = request.getfixturevalue("kafka_server")
    database_url: str = request.getfixturevalue("postgres_url")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.account.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.account.secret_key)
    deployment = {
        "database": {"url": database_url},
        "log": {"kind": "kafka", "partitions": 4, "kafka": {"bootstrap_servers": kafka.bootstrap_servers}},
        "objects": {
            "kind": "s3",
            "s3": {
                "bucket": bucket.name,
                "endpoint_url": bucket.account.endpoint_url,
                "region": bucket.account.region,
                "encryption": "none",
            },
        },
        "lake": {"catalog_url": database_url, "warehouse": f"s3://{bucket.name}/lake"},
    }
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump({"deployment": deployment}), encoding="utf-8")
    return path


@pytest.mark.acceptance
@pytest.mark.services
@pytest.mark.timeout(900)
async def test_from_milvus_to_invoice_and_page(
    base_config: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run is expensive, so everything that it promises is looked at in one test."""
    out = tmp_path / "demo-out"
    await run_demo(out, base_config)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))

    assert summary["samples_scraped"] > 5_000
    assert summary["samples_stored"] == summary["samples_scraped"]
    assert summary["samples_lost"] == summary["samples_duplicated"] == summary["samples_different"] == 0
    assert summary["history_lost"] == summary["history_duplicated"] == 0
    assert summary["milvus_version"].startswith("2.3.5")  # as the server says, "2.3.5-lite"
    assert summary["samples_unexplained"] == 0
    assert summary["scrapes_failed"] <= 3  # the restart of one Milvus for its new allocation
    assert summary["pages_sent"] >= 1
    assert 0 < summary["page_latency_seconds"] < 120
    assert "licens" in summary["scale_refused"]

    secret = (out / "state" / "webhook-secret").read_text(encoding="utf-8").strip()
    check_pages(out / "webhooks.jsonl", secret, monkeypatch)
    history = next(out.glob("simulated-history-*.csv"))
    check_invoice(json.loads((out / "invoice.json").read_text(encoding="utf-8")), history)
    check_report(out, history, summary)


def check_pages(journal: Path, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request, as it was received, is accepted by an independent verifier at its time, and not if changed."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert lines
    for line in lines:
        headers = {name.lower(): value for name, value in line["headers"].items()}
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        monkeypatch.setattr(webhooks, "datetime", frozen_at(at))
        assert Webhook(secret).verify(line["body"], headers)["version"] == "4"
        with pytest.raises(webhooks.WebhookVerificationError):
            Webhook(secret).verify(line["body"].replace("firing", "resolved"), headers)
        assert line["signature_verified"] is True
    assert secret not in journal.read_text(encoding="utf-8")


def frozen_at(moment: datetime) -> type[datetime]:
    """A `datetime` whose `now` is `moment`: the verifier refuses stamps older than five minutes."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment.timestamp(), tz)

    return Frozen


def check_invoice(invoice: dict[str, Any], history: Path) -> None:
    """The overage, recomputed minute by minute from the history file with Decimal."""
    minutes = overage_minutes(history)
    price, divisor = PRICE_PER_VCPU_MINUTE
    expected = (minutes * price / divisor).quantize(Decimal("0.01"), ROUND_HALF_UP)
    amounts = [Decimal(line["amount"]) for line in invoice["lines"]]
    assert expected > 0
    assert sorted(amounts) == [Decimal("0.00"), expected]  # the commitment's line informs, the other is owed
    assert Decimal(invoice["totals"]["gross"]) == sum(amounts)
    assert invoice["number"]


def overage_minutes(history: Path) -> Decimal:
    """vCPU-minutes above the commitment, all clusters summed at each minute first."""
    return sum((max(Decimal(0), level - COMMITTED_VCPU) for level in levels_by_minute(history)), Decimal(0))


def levels_by_minute(history: Path) -> Iterator[Decimal]:
    """The licensed vCPU of the organization in each minute that was observed; steps are whole minutes."""
    samples: dict[tuple[str, str], dict[int, Decimal]] = defaultdict(dict)
    with history.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["component"] in LICENSED:
                minute, rest = divmod(int(line["timestamp_ms"]), 60_000)
                assert rest == 0
                samples[line["cluster"], line["component"]][minute] = Decimal(line["value"])
    total: dict[int, Decimal] = defaultdict(Decimal)
    for series in samples.values():
        known = sorted(series)
        for minute, following in zip(known, [*known[1:], known[-1] + HOLD_MINUTES], strict=True):
            for held in range(minute, min(following, minute + HOLD_MINUTES)):
                total[held] += series[minute]
    return iter(total.values())


def check_report(out: Path, history: Path, summary: dict[str, Any]) -> None:
    """All four forms are there; the vCPU-minutes are those of the file; the gap is stated, not hidden."""
    usage = Decimal(summary["usage_vcpu_minutes"])
    last_minute_overhang = Decimal(12)  # the month ends at its edge, whatever the last samples would hold
    assert 0 <= sum(levels_by_minute(history), Decimal(0)) - usage <= last_minute_overhang
    assert summary["usage_missing_component_hours"] > 17
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["sealed"] is True
    for name in ("report.csv", "report.parquet", "report.pdf", "invoice.pdf"):
        assert (out / name).stat().st_size > 1000
    text = "".join(page.extract_text() for page in pypdf.PdfReader(out / "invoice.pdf").pages)
    assert summary["invoice_number"] in text
