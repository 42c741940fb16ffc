"""Kubernetes discovery: the same targets as vmagent finds at the same server, and what may go wrong.

Debian's Prometheus is built without it, so vmagent is the witness.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.discovery.kubernetes import KubernetesDiscovery, reflector
from collector.discovery.kubernetes.api import in_cluster
from collector.discovery.kubernetes.objects import META, keep
from collector.discovery.kubernetes.roles import targets_of
from collector.push.backoff import Backoff
from collector.scrape.discovery_settings import KubernetesSdConfig, Role
from collector.scrape.target import Discovered
from kernel.clock import SystemClock
from kernel.errors import InvalidInput
from tests.collector.api_server import ApiServer
from tests.collector.kubernetes_objects import endpoint_slice, endpoints, pod, service
from tests.collector.world import serve, until
from tests.services.fixtures import StartVmagent
from tests.services.http_service import HttpService

# What Prometheus 3 has and the vmagent of 2022 has not, by role, and what vmagent alone has.
NEWER = {
    "pod": {"pod_container_id", "pod_container_image"},
    "service": {"service_port_number", "service_loadbalancer_ip"},
    "endpoints": {"pod_container_image", "pod_container_init"},
    "endpointslice": {
        "pod_container_image",
        "pod_container_init",
        "endpointslice_endpoint_conditions_serving",
        "endpointslice_endpoint_conditions_terminating",
        "endpointslice_endpoint_node_name",
        "endpointslice_endpoint_zone",
    },
}
OTHERS = {
    "endpoints": {"service_cluster_ip", "service_type"},
    "endpointslice": {"service_cluster_ip", "service_type"},
}


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed request is repeated after hundredths of a second."""
    monkeypatch.setattr(reflector, "Backoff", lambda first, most, dice: Backoff(first / 20, most, dice))


Seen = list[tuple[tuple[str, str], ...]]


@asynccontextmanager
async def following(
    server: ApiServer, port: int, account: Path | None = None, **fields: Any
) -> AsyncIterator[KubernetesDiscovery]:
    config = KubernetesSdConfig.model_validate({"role": "pod", "api_server": f"http://127.0.0.1:{port}", **fields})
    discovery = KubernetesDiscovery(config, SystemClock(), *([account] if account else []))
    task = asyncio.create_task(discovery.run())
    try:
        yield discovery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        server.end_watches()


async def becomes(discovery: KubernetesDiscovery, addresses: set[str]) -> list[Discovered]:
    async with asyncio.timeout(60):
        while True:
            found = list(await discovery.targets())
            if {one.address for one in found} == addresses:
                return found
            await asyncio.sleep(0.02)


async def some(discovery: KubernetesDiscovery) -> list[Discovered]:
    async with asyncio.timeout(60):
        while True:
            found = list(await discovery.targets())
            if found:
                return found
            await asyncio.sleep(0.02)


def filled() -> ApiServer:
    server = ApiServer()
    server.put("pods", pod())
    server.put("pods", pod("pending", "", phase="Pending", conditions=[]))
    server.put("pods", pod("v6", "fd00::7"))
    server.put("services", service())
    server.put("services", service("other", type="ExternalName", externalName="db.example", clusterIP=""))
    server.put("services", service("lb", type="LoadBalancer", loadBalancerIP="198.51.100.1"))
    server.put("endpoints", endpoints())
    server.put("endpoints", endpoints("without-service"))
    server.put("endpointslices", endpoint_slice())
    server.put("endpointslices", endpoint_slice("lonely", of="not-there"))
    return server


def rendered(labels: dict[str, str], left_out: set[str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((n, v) for n, v in labels.items() if v and n.removeprefix(META) not in left_out))


def seen(found: list[Discovered], role: str) -> Seen:
    """A pod's port that no endpoint names has no labels of the endpoints there; in Prometheus it has."""
    plain = []
    for one in found:
        labels = {**one.labels, "__address__": one.address}
        if one.address.endswith(":19530"):
            labels = {name: value for name, value in labels.items() if not name.startswith(f"{META}endpoint")}
        plain.append(rendered(labels, NEWER[role]))
    return sorted(plain)


@pytest.mark.services
async def test_targets_and_labels_are_those_of_vmagent(start_vmagent: StartVmagent) -> None:
    server = filled()
    roles = ("pod", "service", "endpoints", "endpointslice")
    async with serve(server.app()) as port:
        jobs = [
            {"job_name": role, "kubernetes_sd_configs": [{"role": role, "api_server": f"http://127.0.0.1:{port}"}]}
            for role in roles
        ]
        config = yaml.safe_dump({"scrape_configs": jobs})
        vmagent = await asyncio.to_thread(start_vmagent, config, "http://127.0.0.1:1/")
        for role in roles:
            async with following(server, port, role=role) as discovery:
                ours = await some(discovery)
            theirs = await discovered_by(vmagent, role, len(ours))
            assert seen(ours, role) == theirs, role
            assert len(ours) >= 3
        server.end_watches()
        await asyncio.to_thread(vmagent.process.stop)
        server.end_watches()


async def discovered_by(vmagent: HttpService, role: str, number: int) -> Seen:
    added = {"job", "__metrics_path__", "__scheme__", "__scrape_interval__", "__scrape_timeout__"}
    async with asyncio.timeout(30):
        while True:
            answer = json.loads(await asyncio.to_thread(vmagent.get, "/api/v1/targets?state=any"))["data"]
            targets = [*answer["activeTargets"], *(answer["droppedTargets"] or [])]  # equal ones are dropped there
            labels = [one["discoveredLabels"] for one in targets]
            found = [rendered(one, added | OTHERS.get(role, set())) for one in labels if one["job"] == role]
            if len(found) >= number:
                return sorted(found)
            await asyncio.sleep(0.2)


def labels_of(role: Role, address: str, *objects: tuple[Role, dict[str, Any]]) -> dict[str, str]:
    kept: dict[Role, list[Any]] = {one: [] for one in Role}
    for kind, content in objects:
        kept[kind].append(keep[kind](content))
    return next(dict(one.labels) for one in targets_of(role, kept) if one.address == address)


def test_the_labels_of_prometheus_3_that_vmagent_has_not() -> None:
    of_pod = labels_of(Role.POD, "10.244.0.7:9091", (Role.POD, pod()))
    assert of_pod[f"{META}pod_container_id"] == "containerd://a1"
    assert of_pod[f"{META}pod_container_image"] == "milvusdb/milvus:v2.3.5"
    assert of_pod[f"{META}pod_label_app_kubernetes_io_name"] == "milvus"
    assert of_pod[f"{META}pod_annotationpresent_prometheus_io_scrape"] == "true"
    balanced = service(type="LoadBalancer", loadBalancerIP="198.51.100.1")
    of_service = labels_of(Role.SERVICE, "milvus.milvus.svc:9091", (Role.SERVICE, balanced))
    assert of_service[f"{META}service_loadbalancer_ip"] == "198.51.100.1"
    assert of_service[f"{META}service_port_number"] == "9091"
    of_slice = labels_of(
        Role.ENDPOINTSLICE, "10.244.0.7:9091", (Role.ENDPOINTSLICE, endpoint_slice()), (Role.POD, pod())
    )
    expected = {
        "conditions_serving": "true",
        "conditions_terminating": "false",
        "node_name": "node-1",
        "zone": "eu-1a",
    }
    assert {name: of_slice[f"{META}endpointslice_endpoint_{name}"] for name in expected} == expected
    assert of_slice[f"{META}pod_container_init"] == "false"
    assert f"{META}service_name" not in of_slice


async def test_what_changes_is_followed() -> None:
    server = ApiServer()
    server.put("services", service())
    async with serve(server.app()) as port, following(server, port, role="service") as discovery:
        await becomes(discovery, {"milvus.milvus.svc:9091"})
        server.put("services", service("second"))
        await becomes(discovery, {"milvus.milvus.svc:9091", "second.milvus.svc:9091"})
        server.put("services", service("second", ports=[{"port": 1, "protocol": "TCP"}]))
        await becomes(discovery, {"milvus.milvus.svc:9091", "second.milvus.svc:1"})
        server.delete("services", "milvus", "milvus")
        await becomes(discovery, {"second.milvus.svc:1"})
        server.end_watches()
        server.put("services", service("third"))
        await becomes(discovery, {"second.milvus.svc:1", "third.milvus.svc:9091"})
        assert sum("watch=1" not in one for one in server.requests) == 1  # a watch that ends does not list again


async def test_a_version_that_is_gone_is_listed_again_and_what_vanished_meanwhile_is_gone() -> None:
    server = ApiServer()
    server.put("services", service("first"))
    server.put("services", service("second"))
    async with serve(server.app()) as port, following(server, port, role="service") as discovery:
        await becomes(discovery, {"first.milvus.svc:9091", "second.milvus.svc:9091"})
        server.bookmarks = False
        server.refuse = 500
        server.end_watches()
        await asyncio.sleep(0.05)
        server.delete("services", "milvus", "first")
        server.compact()
        server.refuse = 0
        await becomes(discovery, {"second.milvus.svc:9091"})
        assert sum("watch=1" not in one for one in server.requests) == 2


async def test_a_bookmark_moves_the_version_so_that_a_quiet_collection_is_not_listed_again() -> None:
    server = ApiServer()
    server.put("services", service())
    async with serve(server.app()) as port, following(server, port, role="service") as discovery:
        await becomes(discovery, {"milvus.milvus.svc:9091"})
        server.put("pods", pod())  # the version moves on, but not for services
        await asyncio.sleep(0.1)
        server.history, server.compacted = [], server.version
        server.end_watches()
        server.put("services", service("second"))
        await becomes(discovery, {"milvus.milvus.svc:9091", "second.milvus.svc:9091"})
        assert sum("watch=1" not in one for one in server.requests) == 1


async def test_a_server_that_is_away_keeps_the_targets() -> None:
    server = ApiServer()
    server.put("services", service())
    async with serve(server.app()) as port, following(server, port, role="service") as discovery:
        await becomes(discovery, {"milvus.milvus.svc:9091"})
        server.refuse = 503
        server.end_watches()
        await until(lambda: "503" in (discovery.last_error or ""))
        assert len(await discovery.targets()) == 1
        server.refuse = 0
        server.put("services", service("second"))
        await becomes(discovery, {"milvus.milvus.svc:9091", "second.milvus.svc:9091"})
        assert discovery.last_error is None


async def test_long_lists_come_in_pages_and_selectors_and_namespaces_are_asked_for() -> None:
    server = ApiServer()
    for number in range(1203):
        server.put("services", service(f"s{number}"))
    elsewhere = service("elsewhere")
    elsewhere["metadata"]["namespace"] = "other"
    server.put("services", elsewhere)
    chosen = {"label": "app.kubernetes.io/name=milvus", "field": "metadata.namespace=milvus"}
    async with (
        serve(server.app()) as port,
        following(server, port, role="service", selectors=[{"role": "service", **chosen}]) as discovery,
        following(server, port, role="service", namespaces={"names": ["other", "none"]}) as narrow,
    ):
        await becomes(discovery, {f"s{number}.milvus.svc:9091" for number in range(1203)})
        assert sum("continue" in one for one in server.requests) == 2
        await becomes(narrow, {"elsewhere.other.svc:9091"})
        assert any(one.startswith("/api/v1/namespaces/none/services?") for one in server.requests)


async def test_a_rotated_token_is_taken_up(tmp_path: Path) -> None:
    server = ApiServer(tokens={"first"})
    server.put("services", service())
    token = tmp_path / "token"
    token.write_text("first\n")
    async with (
        serve(server.app()) as port,
        following(server, port, role="service", authorization={"credentials_file": str(token)}) as discovery,
    ):
        await becomes(discovery, {"milvus.milvus.svc:9091"})
        server.tokens = {"second"}
        server.put("services", service("second"))
        server.end_watches()
        await until(lambda: "401" in (discovery.last_error or ""))
        token.write_text("second\n")
        await becomes(discovery, {"milvus.milvus.svc:9091", "second.milvus.svc:9091"})


def test_inside_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    found = in_cluster(tmp_path, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert found.api_server == "https://[fd00::1]:443"
    assert found.tls_config.ca_file == tmp_path / "ca.crt"
    assert found.authorization is not None
    assert found.authorization.credentials_file == tmp_path / "token"
    with pytest.raises(InvalidInput, match="api_server"):
        in_cluster(tmp_path, {})


async def test_the_own_namespace_is_read_from_the_account(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("milvus")
    server = filled()
    async with (
        serve(server.app()) as port,
        following(server, port, tmp_path, role="service", namespaces={"own_namespace": True}) as discovery,
    ):
        found = await becomes(discovery, {f"{name}.milvus.svc:9091" for name in ("milvus", "other", "lb")})
    assert {one.labels[f"{META}service_name"] for one in found} == {"milvus", "other", "lb"}
    assert all("/namespaces/milvus/" in one for one in server.requests)


@pytest.mark.parametrize(
    "event",
    [b"[]", b"{}", b'{"type":"ADDED","object":{}}', b'{"type":"ADDED","object":{"metadata":null}}', b"no json",
     b'{"type":"NEW","object":{"metadata":{"resourceVersion":"1","namespace":"a","name":"b"}}}'],
)  # fmt: skip
async def test_an_event_that_is_none_ends_the_watch_and_nothing_else(event: bytes) -> None:
    from aiohttp import web

    asked = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": [service()]})
        asked += 1
        return web.Response(body=event + b"\n", content_type="application/json")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    async with serve(app) as port, following(ApiServer(), port, role="service") as discovery:
        await until(lambda: asked >= 2)
        assert discovery.last_error is not None
        assert [one.address for one in await discovery.targets()] == ["milvus.milvus.svc:9091"]
