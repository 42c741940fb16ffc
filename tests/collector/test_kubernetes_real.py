"""Discovery at a real API server: what the manifest in `deploy/` allows is enough, and no more than is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.discovery.kubernetes import KubernetesDiscovery
from collector.scrape.discovery_settings import KubernetesSdConfig
from kernel.clock import SystemClock
from tests.collector.kubernetes_objects import endpoint_slice, endpoints, pod, service
from tests.collector.test_kubernetes import discovered_by, seen
from tests.collector.world import until
from tests.services.fixtures import StartVmagent
from tests.services.kubernetes import MISSING, Kubernetes, run_kubernetes

pytestmark = [pytest.mark.services, pytest.mark.skipif(bool(MISSING), reason=f"no {MISSING} in PATH")]
MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "collector.yaml"
CORE = "/api/v1/namespaces"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
WHERE = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": f"{CORE}/byoc/serviceaccounts",
    "ConfigMap": f"{CORE}/byoc/configmaps",
    "ClusterRole": f"{RBAC}/clusterroles",
    "ClusterRoleBinding": f"{RBAC}/clusterrolebindings",
    "StatefulSet": "/apis/apps/v1/namespaces/byoc/statefulsets",
}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with run_kubernetes(tmp_path_factory.mktemp("kubernetes")) as server:
        for part in yaml.safe_load_all(MANIFEST.read_text()):
            server.do("POST", WHERE[part["kind"]], part)
        server.do("POST", CORE, {"metadata": {"name": "milvus"}})
        yield server


def create(server: Kubernetes, plural: str, content: Object, group: str = CORE) -> Object:
    """Made as a client makes it, its status afterwards as a kubelet would."""
    content = json.loads(json.dumps(content))
    metadata, status = content["metadata"], content.pop("status", None)
    for name in ("uid", "creationTimestamp", "ownerReferences", "generateName"):
        metadata.pop(name, None)
    namespace = metadata["namespace"]
    made = server.do("POST", f"{group}/{namespace}/{plural}", content)
    if plural == "pods":
        path = f"{group}/{namespace}/{plural}/{metadata['name']}/status"
        made = server.do("PATCH", path, {"status": status})
    return made


def fill(server: Kubernetes) -> None:
    create(server, "pods", pod())
    create(server, "pods", pod("v6", "fd00::7"))
    create(server, "pods", pod("pending", "", phase="Pending", conditions=[], podIPs=[], podIP=None))
    create(server, "services", service())
    create(
        server,
        "services",
        service("other", type="ExternalName", externalName="db.example", clusterIP=None, clusterIPs=None),
    )
    create(server, "endpoints", endpoints())
    slices = "/apis/discovery.k8s.io/v1/namespaces"
    create(server, "endpointslices", endpoint_slice(), slices)


@asynccontextmanager
async def following(server: Kubernetes, token: Path, **fields: Any) -> AsyncIterator[KubernetesDiscovery]:
    config = KubernetesSdConfig.model_validate(
        {
            "api_server": server.url,
            "authorization": {"credentials_file": str(token)},
            "tls_config": {"ca_file": str(server.ca_file)},
            **fields,
        }
    )
    discovery = KubernetesDiscovery(config, SystemClock())
    task = asyncio.create_task(discovery.run())
    try:
        yield discovery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def becomes(discovery: KubernetesDiscovery, is_so: Callable[[set[str]], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so({one.address for one in await discovery.targets()}):  # noqa: ASYNC110 - polled as scraping does
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def token(kubernetes: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token of the manifest's account, as its pod gets it."""
    fill(kubernetes)
    path = tmp_path_factory.mktemp("account") / "token"
    path.write_text(kubernetes.token_of("byoc", "byoc-collector"))
    return path


async def test_the_account_of_the_manifest_finds_what_vmagent_finds(
    kubernetes: Kubernetes, token: Path, start_vmagent: StartVmagent
) -> None:
    at = {
        "api_server": kubernetes.url,
        "authorization": {"credentials_file": str(token)},
        "tls_config": {"ca_file": str(kubernetes.ca_file)},
        "namespaces": {"names": ["milvus"]},
    }
    roles = ("pod", "service", "endpoints", "endpointslice")
    jobs = [{"job_name": role, "kubernetes_sd_configs": [{"role": role, **at}]} for role in roles]
    config = yaml.safe_dump({"scrape_configs": jobs})
    vmagent = await asyncio.to_thread(start_vmagent, config, "http://127.0.0.1:1/")
    for role in roles:
        async with following(kubernetes, token, role=role, namespaces={"names": ["milvus"]}) as discovery:
            await becomes(discovery, bool)
            ours = list(await discovery.targets())
        assert seen(ours, role) == await discovered_by(vmagent, role, len(ours)), role
        assert len(ours) >= 2


def test_the_account_may_read_what_discovery_needs_and_nothing_else(kubernetes: Kubernetes, token: Path) -> None:
    paths = [f"/api/v1/{plural}" for plural in ("pods", "services", "endpoints", "secrets", "configmaps")]
    statuses = [kubernetes.ask("GET", path, token=token.read_text())[0] for path in paths]
    assert statuses == [200, 200, 200, 403, 403]
    assert kubernetes.ask("DELETE", f"{CORE}/milvus/pods/milvus-0", token=token.read_text())[0] == 403


async def test_changes_and_a_server_that_restarts_are_followed(kubernetes: Kubernetes, token: Path) -> None:
    names = {"names": ["milvus"]}
    async with following(kubernetes, token, role="service", namespaces=names) as discovery:
        await becomes(discovery, lambda found: "milvus.milvus.svc:9091" in found)
        create(kubernetes, "services", service("second", clusterIP=None, clusterIPs=None))
        await becomes(discovery, lambda found: "second.milvus.svc:9091" in found)
        kubernetes.do("DELETE", f"{CORE}/milvus/services/second")
        await becomes(discovery, lambda found: "second.milvus.svc:9091" not in found)
        await asyncio.to_thread(kubernetes.process.restart)
        create(kubernetes, "services", service("third", clusterIP=None, clusterIPs=None))
        await becomes(discovery, lambda found: "third.milvus.svc:9091" in found)
        assert discovery.last_error is None


async def test_an_account_without_the_role_is_told_so(kubernetes: Kubernetes, tmp_path: Path) -> None:
    path = f"{CORE}/milvus/serviceaccounts"
    kubernetes.do("POST", path, {"metadata": {"name": "nobody"}})
    (tmp_path / "token").write_text(kubernetes.token_of("milvus", "nobody"))
    async with following(kubernetes, tmp_path / "token", role="pod") as discovery:
        await until(lambda: discovery.last_error is not None)
    assert "403" in (discovery.last_error or "")
    assert "cannot list resource" in (discovery.last_error or "")
