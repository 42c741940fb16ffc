"""The exporter tells what runs, from processes and not from wishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from provisioner.lifecycle import State
from provisioner.local import process
from provisioner.local.exporter import ClusterMetrics, look, targets
from provisioner.local.exporter_process import end_exporter, ensure_exporter, exporter_address, find_exporter
from provisioner.local.provider import LocalProvider
from tests.provisioner.standin import METRICS_PORT, start_standin
from tests.provisioner.test_process import wait_for


@pytest.fixture
def project_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "vpc" / "project-a"
    LocalProvider(tmp_path / "vpc").end_all()


def scrape(project_folder: Path) -> dict[tuple[str, str, str], float]:
    """(name, cluster, component or state) to value, decoded by prometheus-client's own parser."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterMetrics(project_folder))
    return decode(generate_latest(registry).decode())


def decode(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (
            sample.name,
            sample.labels["cluster"],
            sample.labels.get("component") or sample.labels["state"],
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def running(cluster: str) -> dict[tuple[str, str, str], float]:
    allocated = "byoc_component_allocated_vcpu"
    return {
        (allocated, cluster, "query"): 1.0,
        (allocated, cluster, "milvus"): 0.5,
        (allocated, cluster, "index"): 0.5,
        (allocated, cluster, "dependency"): 0.5,
        ("byoc_cluster_state", cluster, "RUNNING"): 1.0,
    }


def test_a_running_server_has_its_allocation_and_its_state(project_folder: Path) -> None:
    start_standin(project_folder, "cluster-a")
    assert scrape(project_folder) == running("cluster-a")
    assert targets(look(project_folder)) == [
        {"targets": [f"127.0.0.1:{METRICS_PORT}"], "labels": {"cluster": "cluster-a"}}
    ]


def test_a_server_whose_record_was_never_written_is_found_by_its_environment(project_folder: Path) -> None:
    server, identity = start_standin(project_folder, "cluster-a", recorded=False)
    assert server.find() == identity
    assert scrape(project_folder) == running("cluster-a")


def test_a_suspended_cluster_has_a_state_and_no_allocation(project_folder: Path) -> None:
    server, _ = start_standin(project_folder, "cluster-a", State.SUSPENDED)
    server.stop()
    assert scrape(project_folder) == {("byoc_cluster_state", "cluster-a", "SUSPENDED"): 1.0}
    assert targets(look(project_folder)) == []


def test_a_server_that_died_is_failed_although_nobody_said_so(project_folder: Path) -> None:
    _, identity = start_standin(project_folder, "cluster-a")
    process.end(identity, 5, 5)
    assert scrape(project_folder) == {("byoc_cluster_state", "cluster-a", "FAILED"): 1.0}


def test_a_record_of_another_process_is_not_believed(project_folder: Path) -> None:
    server, identity = start_standin(project_folder, "cluster-a")
    stranger, other = start_standin(project_folder, "cluster-b")
    record = (stranger.folder / "process.json").read_text()
    (server.folder / "process.json").write_text(record)
    assert server.find() == identity
    assert stranger.find() == other


def test_what_is_removed_is_gone_and_broken_records_harm_nobody(project_folder: Path) -> None:
    server, _ = start_standin(project_folder, "cluster-a")
    broken, _ = start_standin(project_folder, "cluster-b")
    for name in ("lifecycle.json", "ports.json", "process.json"):
        (broken.folder / name).write_text("{")
    server.remove()
    seen = look(project_folder)
    assert [(one.cluster, one.state, one.metrics_address) for one in seen] == [("cluster-b", None, None)]


@pytest.mark.slow
def test_the_exporter_process_serves_lists_and_outlives_whoever_started_it(project_folder: Path) -> None:
    server, _ = start_standin(project_folder, "cluster-a")
    ensure_exporter(project_folder)
    first = find_exporter(project_folder)
    ensure_exporter(project_folder)
    assert find_exporter(project_folder) == first, "one for each project"
    wait_for(lambda: exporter_address(project_folder) and (project_folder / "targets.json").exists(), 30)
    with urlopen(f"http://{exporter_address(project_folder)}/metrics", timeout=5) as answer:
        assert decode(answer.read().decode()) == running("cluster-a")
    listed = json.loads((project_folder / "targets.json").read_text())
    assert listed[0]["labels"] == {"cluster": "cluster-a"}

    server.stop()
    wait_for(lambda: json.loads((project_folder / "targets.json").read_text()) == [])
    end_exporter(project_folder)
    assert find_exporter(project_folder) is None
    assert exporter_address(project_folder) is None
