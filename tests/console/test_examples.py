"""The examples in deploy/ are what they say: each is read by the command that its user would type."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from console.cli import main

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def byoc(*words: str | Path) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_prices_contract_and_licence_are_taken_in_this_order(tmp_path: Path) -> None:
    options = ("--dir", tmp_path)
    assert byoc(*options, "organization", "create", "Acme", "--id", "acme") == 0
    for group, name in (("price", "prices"), ("contract", "contract"), ("licence", "licence")):
        assert byoc(*options, group, "add", DEPLOY / "examples" / f"{name}.yaml") == 0, name


@pytest.mark.parametrize("name", ["collector.example.yaml", "examples/collector.local.yaml"])
def test_the_collectors_examples_are_valid(name: str) -> None:
    assert byoc("collector", "run", "-c", DEPLOY / name, "--check-config") == 0


def test_the_settings_inside_the_kubernetes_manifest_are_valid_and_it_may_read_what_discovery_asks_for(
    tmp_path: Path,
) -> None:
    manifest = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "collector.yaml").read_text()))
    by_kind = {one["kind"]: one for one in manifest}
    (tmp_path / "collector.yaml").write_text(by_kind["ConfigMap"]["data"]["collector.yaml"])
    assert byoc("collector", "run", "-c", tmp_path / "collector.yaml", "--check-config") == 0
    rules = by_kind["ClusterRole"]["rules"]
    assert {name for rule in rules for name in rule["resources"]} == {
        "pods", "services", "endpoints", "endpointslices",
    }  # fmt: skip
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    bound = by_kind["ClusterRoleBinding"]
    assert bound["roleRef"]["name"] == by_kind["ClusterRole"]["metadata"]["name"]
    account = by_kind["ServiceAccount"]["metadata"]
    assert [(one["name"], one["namespace"]) for one in bound["subjects"]] == [
        (account["name"], account["namespace"])
    ]
    assert by_kind["StatefulSet"]["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]


def test_every_example_is_known_here() -> None:
    found = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*.yaml")}
    assert found == {
        "collector.example.yaml",
        "examples/collector.local.yaml",
        "examples/contract.yaml",
        "examples/licence.yaml",
        "examples/prices.yaml",
        "kubernetes/collector.yaml",  # below
        "vendor.example.yaml",  # test_check_config.py
    }
