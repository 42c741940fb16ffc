"""The environment wins over the file, in every section, and what it gets wrong is named by its variable."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from kernel.deployment import Deployment
from kernel.environment import variables
from kernel.errors import InvalidInput
from kernel.settings import Section, Settings, load_section, load_settings

SECRET = "hunter2-hunter2"


class Body(Section):
    series: int = Field(default=10, ge=1, description="Series.")
    samples: int = Field(default=20, description="Samples.")


class Gateway(Section):
    port: int = Field(default=8443, ge=1, le=65535, description="Port.")
    host_names: tuple[str, ...] = Field(default=("a",), description="Names.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels.")
    digits: str | None = Field(default=None, description="Text that looks like a number.")
    connection: SecretStr | None = Field(default=None, min_length=20, description="Secret.")
    certificate: Path | None = Field(default=None, description="File.")
    body: Body = Field(default=Body(), description="Body.")


class Whole(Settings):
    gateway: Gateway = Field(default=Gateway(), alias="global", description="Under another name in the file.")


@pytest.fixture
def vendor_file(tmp_path: Path) -> Path:
    path = tmp_path / "vendor.yaml"
    path.write_text("gateway: {port: 1, host_names: [b, c], labels: {x: file, y: file}, body: {samples: 7}}\n")
    return path


def refused(path: Path | None) -> str:
    with pytest.raises(InvalidInput) as caught:
        load_section("gateway", Gateway, path)
    return str(caught.value)


def test_a_section_is_the_file_under_the_environment(vendor_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOC_GATEWAY__PORT", "2")
    monkeypatch.setenv("BYOC_GATEWAY__BODY__SERIES", "5")
    monkeypatch.setenv("BYOC_GATEWAY__HOST_NAMES", '["d"]')
    monkeypatch.setenv("BYOC_GATEWAY__LABELS", '{"x": "environment"}')
    monkeypatch.setenv("BYOC_GATEWAY__DIGITS", "123456789012")
    monkeypatch.setenv("BYOC_LAKE__NONSENSE", "another section's affair")
    section = load_section("gateway", Gateway, vendor_file)
    assert section.port == 2
    assert section.body == Body(series=5, samples=7)
    assert section.host_names == ("d",)
    assert section.labels == {"x": "environment", "y": "file"}
    assert section.digits == "123456789012"


def test_a_deployment_without_a_file_asks_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOC_DEPLOYMENT__LOG__KIND", "kafka")
    monkeypatch.setenv("BYOC_DEPLOYMENT__FOLDER", "/elsewhere")
    monkeypatch.setenv("BYOC_GATEWAY__PORT", "9")
    deployment = Deployment.embedded(tmp_path)
    assert deployment.settings.log.kind == "kafka"
    assert deployment.folder == tmp_path
    assert deployment.section("gateway", Gateway).port == 9


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "PORT",
            "abc",
            "environment BYOC_GATEWAY__PORT: gateway.port: found 'abc'; allowed: a whole number",
        ),
        (
            "PORTO",
            "1",
            "environment BYOC_GATEWAY__PORTO: gateway.porto: found an unknown name; allowed: port, host",
        ),
        ("BODY__SERIES", "0", "environment BYOC_GATEWAY__BODY__SERIES: gateway.body.series: found '0'"),
        ("HOST_NAMES", "a,b", "found 'a,b'; allowed: a list, as JSON"),
        ("BODY", '{"series": 0}', "environment BYOC_GATEWAY__BODY: gateway.body.series: found 0"),
        ("PORT__DEEPER", "1", "environment BYOC_GATEWAY__PORT__DEEPER"),
    ],
)
def test_an_error_names_its_variable(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BYOC_GATEWAY__{name}", value)
    assert message in refused(None)


def test_what_the_file_gets_wrong_is_not_covered_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text("gateway: {body: 3}\n")
    monkeypatch.setenv("BYOC_GATEWAY__BODY__SERIES", "5")
    assert f"{path} with environment BYOC_GATEWAY__BODY__SERIES: gateway.body: found 3" in refused(path)


def test_two_variables_for_one_setting_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOC_GATEWAY__BODY", "3")
    monkeypatch.setenv("BYOC_GATEWAY__BODY__SERIES", "5")
    assert "one variable for a setting" in refused(None)


@pytest.mark.parametrize(
    "text",
    [
        f"connection: {SECRET}",
        f"conection: {SECRET}",
        f"port: 'https://user:{SECRET}@host'",
        f"connection: ['{SECRET}']",
    ],
)
def test_no_secret_is_shown_whatever_is_wrong_with_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text(f"gateway: {{{text}}}\n")
    assert SECRET not in refused(path)


def test_kubernetes_own_variables_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("BYOC_GATEWAY_PORT", "tcp://10.0.0.1:8443"),
        ("BYOC_GATEWAY_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("BYOC_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("BYOC_GATEWAY_SERVICE_PORT_HTTPS", "8443"),
        ("BYOC_COLLECTOR_PORT", "tcp://10.0.0.1:8443"),
    ):
        monkeypatch.setenv(name, value)
    assert variables("BYOC_GATEWAY") == []
    assert variables("BYOC_COLLECTOR_") == []
    monkeypatch.setenv("BYOC_GATEWAY_PORT", "8443")
    assert [variable.name for variable in variables("BYOC_")] == ["BYOC_GATEWAY_PORT"]


def test_a_field_that_has_another_name_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOC_GLOBAL__PORT", "5")
    monkeypatch.setenv("GLOBAL", '{"port": 6}')
    assert load_settings(Whole, None).gateway.port == 5


def test_the_file_can_not_instruct_the_library(tmp_path: Path) -> None:
    path = tmp_path / "vendor.yaml"
    path.write_text("_cli_parse_args: [--global.port=7]\n")
    with pytest.raises(InvalidInput, match="_cli_parse_args"):
        load_settings(Whole, path)


def test_relative_paths_are_the_files(vendor_file: Path) -> None:
    vendor_file.write_text("gateway: {certificate: tls/ca.pem}\n")
    found = Deployment.from_file(vendor_file).section("gateway", Gateway)
    assert found.certificate == vendor_file.parent / "tls" / "ca.pem"


def test_a_refused_item_does_not_also_make_its_list_too_short(tmp_path: Path) -> None:
    class Prices(Section):
        prices: tuple[Body, ...] = Field(min_length=1, description="Prices.")

    path = tmp_path / "vendor.yaml"
    path.write_text("p: {prices: [{series: 0}]}\n")
    with pytest.raises(InvalidInput) as caught:
        load_section("p", Prices, path)
    assert [finding.where for finding in caught.value.findings] == ["p.prices[0].series"]
    path.write_text("p: {prices: []}\n")
    with pytest.raises(InvalidInput, match=r"p\.prices: found an empty list; allowed: 1 or more of them"):
        load_section("p", Prices, path)
