"""`byoc up --check-config` finds what the start would stumble over, without asking a server or making a file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trustme

from console.cli import main

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "vendor.example.yaml"
SIGNING = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
PASSWORD = "hunter2-hunter2"


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Checker:
    return Checker(tmp_path, capsys, monkeypatch)


class Checker:
    """Runs the command on a text or a folder; nothing may be made by it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.environment = monkeypatch
        self._capsys = capsys

    def file(self, text: str) -> tuple[int, str]:
        path = self.folder / "vendor.yaml"
        path.write_text(text, encoding="utf-8")
        return self.run("-c", str(path))

    def run(self, *options: str) -> tuple[int, str]:
        before = sorted(self.folder.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            main([*options, "up", "--check-config"])
        assert sorted(self.folder.rglob("*")) == before
        printed = self._capsys.readouterr()
        status = ended.value.code
        return status if isinstance(status, int) else 0, printed.err or printed.out


def test_the_example_is_valid_once_its_secrets_are_set(check: Checker) -> None:
    status, said = check.run("-c", str(EXAMPLE))
    assert status == 2
    assert "alerts: receivers[0].secret_env: found BYOC_ON_CALL_SECRET, which is not set" in said
    assert "alerts: receivers[1].secret_env: found BYOC_PHONE_SECRET, which is not set" in said
    check.environment.setenv("BYOC_ON_CALL_SECRET", SIGNING)
    check.environment.setenv("BYOC_PHONE_SECRET", SIGNING)
    assert check.run("-c", str(EXAMPLE)) == (0, "settings are valid\n")


def test_a_folder_that_is_new_is_valid(check: Checker) -> None:
    assert check.run("--dir", str(check.folder / "new")) == (0, "settings are valid\n")


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("BYOC_DEPLOYMENT__LOG__KIND", "redis", "deployment.log.kind"),
        ("BYOC_UP__HEALTH_PORT", "70000", "up.health_port"),
        ("BYOC_GATEWAY__PORT", "abc", "gateway.port"),
        ("BYOC_LAKE__COMMIT_SECONDS", "0", "lake.commit_seconds"),
        ("BYOC_USAGE__REVISION_DAYS", "x", "usage.revision_days"),
        ("BYOC_ALERTS__RECEIVERS", '[{"name": "on-call"}]', "alerts.receivers[0].url"),
    ],
)
def test_the_environment_reaches_every_section(check: Checker, name: str, value: str, where: str) -> None:
    check.environment.setenv(name, value)
    for status, said in (check.run("--dir", str(check.folder)), check.file("")):
        assert status == 2, said
        assert f"environment {name}: {where}: found " in said


def test_an_unknown_variable_is_refused(check: Checker) -> None:
    for name in ("BYOC_COLLECTOR_GATEWAY__URL", "BYOC_REQUIRE_SERVICES", "BYOC_GATEWAY_SERVICE_HOST"):
        check.environment.setenv(name, "1")
    assert check.run("--dir", str(check.folder))[0] == 0
    check.environment.setenv("BYOC_GATWAY__PORT", "8443")
    check.environment.setenv("BYOC_GATEWAY_HOST", "0.0.0.0")
    status, said = check.run("--dir", str(check.folder))
    assert status == 2
    assert "environment BYOC_GATWAY__PORT: section: found 'gatway'; allowed: BYOC_<SECTION>__<FIELD>" in said
    assert "environment BYOC_GATEWAY_HOST: section" in said


def test_a_secret_that_a_variable_names_is_known(check: Checker) -> None:
    check.environment.setenv("BYOC_MY_SECRET", SIGNING)
    assert check.run("--dir", str(check.folder))[0] == 2
    receivers = '[{"name": "a", "url": "https://hooks.example/", "secret_env": "BYOC_MY_SECRET"}]'
    check.environment.setenv("BYOC_ALERTS__RECEIVERS", receivers)
    assert check.run("--dir", str(check.folder)) == (0, "settings are valid\n")


RECEIVER = "alerts: {receivers: [{name: a, url: 'https://hooks.example/', %s}]}"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("alerts: {rule_files: [absent.yaml]}", "absent.yaml: file"),
        ("alerts: {rule_files: [vendor.yaml]}", "vendor.yaml: line 1, document"),
        (RECEIVER % "secret_env: BYOC_ABSENT", "receivers[0].secret_env: found BYOC_ABSENT, which is not set"),
        (RECEIVER % "secret_file: absent", "absent: file"),
        (RECEIVER % f"secret: {PASSWORD}", "alerts.receivers.a: secret"),
        (f"deployment: {{database: {{url: 'postgresql+psycopg//u:{PASSWORD}@h/d'}}}}", "deployment.database.url"),
        (f"deployment: {{database: {{url: 'postgresql://u:{PASSWORD}@h/d'}}}}", "postgresql+psycopg://"),
        ("deployment: {database: {url: 'postgresql+psycopg://u@h:port/d'}}", "deployment.database.url"),
        ("deployment: {database: {url: 'sqlite://'}}", "a file for sqlite"),
        ("deployment: {database: {url: ''}}", "deployment.database.url"),
        (f"deployment: {{lake: {{catalog_url: 'mysql://u:{PASSWORD}@h/d'}}}}", "deployment.lake.catalog_url"),
        ("deployment: {folder: vendor.yaml}", "deployment.folder"),
        ("deployment: {log: {kind: kafka, kafka: {security: SSL, ca_file: absent}}}", "log.kafka: ca_file"),
        ("deployment: {log: {kind: kafka, kafka: {security: SSL, ca_file: vendor.yaml}}}", "log.kafka: ca_file"),
        (
            "deployment: {log: {kind: kafka, kafka: {security: SSL, certificate_file: c, key_file: k}}}",
            "log.kafka: key_file",
        ),
        ("deployment: {objects: {kind: s3, s3: {bucket: abc, credentials_file: absent}}}", "absent: file"),
        ("deployment: {objects: {kind: s3, s3: {bucket: abc, credentials_file: vendor.yaml}}}", "[default]"),
    ],
)
def test_what_the_start_would_stumble_over(check: Checker, text: str, where: str) -> None:
    status, said = check.file(text)
    assert status == 2, said
    assert where in said
    assert PASSWORD not in said


def test_every_defect_is_named_at_once(check: Checker) -> None:
    status, said = check.file("gateway: {port: -1}\nlake: {commit_seconds: 0}\nusage: {revision_days: 0}\n")
    assert status == 2
    assert [line.split(": ")[2] for line in said.splitlines()] == [
        "gateway.port",
        "lake.commit_seconds",
        "usage.revision_days",
    ]


def test_certificates_of_brokers_are_read(check: Checker) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(check.folder / "ca.pem"))
    issued = authority.issue_cert("client.example")
    issued.private_key_pem.write_to_path(str(check.folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(check.folder / "client.pem"))
    text = (
        "deployment: {log: {kind: kafka, kafka:"
        " {security: SSL, ca_file: ca.pem, certificate_file: client.pem, key_file: KEY}}}"
    )
    assert check.file(text.replace("KEY", "key.pem")) == (0, "settings are valid\n")
    status, said = check.file(text.replace("KEY", "ca.pem"))
    assert status == 2
    assert "deployment.log.kafka: certificate_file, key_file" in said


def test_a_damaged_authority_is_found(check: Checker) -> None:
    folder = check.folder / "authority"
    folder.mkdir()
    (folder / "ca.pem").write_text("nonsense")
    (folder / "ca-key.pem").write_text("nonsense")
    (folder / "ca-key.pem").chmod(0o600)
    status, said = check.run("--dir", str(check.folder))
    assert status == 2
    assert f"{folder}: CA files" in said
