"""A deployment opens what its settings say, lazily, and closes it."""

from pathlib import Path

import pytest
from pydantic import Field

from kernel.clock import VirtualClock
from kernel.deployment import Deployment
from kernel.errors import InvalidInput
from kernel.log import Record
from kernel.log.kafka import KafkaLog
from kernel.log.sqlite import SqliteLog
from kernel.objects.local import LocalObjects
from kernel.objects.s3 import S3Objects
from kernel.settings import Section

SCALED = """
deployment:
  folder: state
  trust_domain: acme.example
  database: {url: "postgresql+psycopg://byoc:hunter2@127.0.0.1/byoc"}
  log: {kind: kafka, kafka: {bootstrap_servers: "a:9092,b:9092"}}
  objects: {kind: s3, s3: {bucket: acme-lake, region: us-east-1}}
  lake: {warehouse: "s3://acme-lake/lake"}
gateway: {port: 8443}
"""


class GatewaySettings(Section):
    port: int = Field(default=1, ge=1, description="Port.")


async def test_embedded_keeps_everything_in_its_folder(tmp_path: Path) -> None:
    deployment = Deployment.embedded(tmp_path / "state", VirtualClock())
    assert list(tmp_path.iterdir()) == []  # nothing is made before it is asked for
    log = await deployment.log()
    assert isinstance(log, SqliteLog)
    assert await deployment.log() is log
    assert isinstance(deployment.objects(), LocalObjects)
    assert deployment.objects() is deployment.objects()
    assert deployment.database() is deployment.database()
    await log.ensure_topics({"t": 1})
    await (await log.writer()).append("t", [Record(b"k", b"v", {})])
    await deployment.objects().put("a", b"1")
    assert deployment.catalog_url == f"sqlite:///{tmp_path}/state/catalog.sqlite"
    assert deployment.warehouse == f"file://{tmp_path}/state/warehouse"
    assert deployment.authority_folder == tmp_path / "state" / "authority"
    await deployment.close()
    await deployment.close()

    again = Deployment.embedded(tmp_path / "state", VirtualClock())
    assert await again.objects().get("a") == b"1"
    assert list((await (await again.log()).end_offsets("t")).values()) == [1]
    await again.close()


async def test_a_file_says_what_stands_behind_each_port(tmp_path: Path) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text(SCALED)
    deployment = Deployment.from_file(path)
    assert deployment.folder == tmp_path / "state"
    assert deployment.settings.trust_domain == "acme.example"
    assert isinstance(await deployment.log(), KafkaLog)
    assert isinstance(deployment.objects(), S3Objects)
    assert deployment.database().url.get_backend_name() == "postgresql"
    assert deployment.warehouse == "s3://acme-lake/lake"
    assert deployment.section("gateway", GatewaySettings).port == 8443
    assert deployment.section("absent", GatewaySettings).port == 1
    assert "hunter2" not in repr(deployment.settings)
    await deployment.close()


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text(SCALED)
    monkeypatch.setenv("BYOC_DEPLOYMENT__DATABASE__URL", "sqlite:////elsewhere.sqlite")
    monkeypatch.setenv("BYOC_DEPLOYMENT__LOG__KAFKA__BOOTSTRAP_SERVERS", "c:9092")
    deployment = Deployment.from_file(path)
    assert deployment.settings.log.kind == "kafka"
    assert deployment.settings.log.kafka.bootstrap_servers == "c:9092"
    assert deployment.database().is_sqlite


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ("log: {kind: redis}", "log.kind"),
        ("log: {kafka: {bootstrap_servers: nonsense}}", "bootstrap_servers"),
        ("log: {kafka: {security: SASL_SSL}}", "sasl_username and sasl_password"),
        ("log: {kafka: {certificate_file: a.pem}}", "go together"),
        ("objects: {kind: s3}", "needs s3.bucket"),
        ("objects: {s3: {expected_bucket_owner: '12'}}", "expected_bucket_owner"),
        ("objects: {s3: {prefix: ../up/}}", "prefix"),
        ("lake: {warehouse: 'gs://x'}", "warehouse"),
        ("trust_domain: 'Acme Example'", "trust_domain"),
        ("colour: red", "colour"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, section: str, where: str) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text(f"deployment:\n  {section}\n")
    with pytest.raises(InvalidInput, match=where):
        Deployment.from_file(path)


def test_a_component_section_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text("gateway: {port: 0}\n")
    with pytest.raises(InvalidInput, match=r"vendor.yaml: gateway.port"):
        Deployment.from_file(path).section("gateway", GatewaySettings)


async def test_a_new_folder_is_for_our_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    deployment = Deployment.embedded(folder, VirtualClock())
    deployment.objects()
    await deployment.log()
    await deployment.close()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)  # what the operator has chosen stays
    again = Deployment.embedded(folder, VirtualClock())
    again.database()
    await again.close()
    assert folder.stat().st_mode & 0o777 == 0o750
