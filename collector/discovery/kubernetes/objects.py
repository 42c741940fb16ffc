"""What is kept of an object of the API server: what its targets need, and no more (a pod has 10 kB, this 2).

Labels have Prometheus' names (prometheus.io, "kubernetes_sd_config"). A missing field counts as empty,
as it does for Go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.scrape.discovery_settings import Role

META = "__meta_kubernetes_"
NAMESPACE = f"{META}namespace"
_OUTSIDE_NAMES = re.compile(r"[^a-zA-Z0-9_]")
Key = tuple[str, str]  # namespace, name
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Container:
    """`ports`: number, name, protocol."""

    name: str
    image: str
    id: str
    init: bool
    ports: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Pod:
    key: Key
    ip: str
    labels: Labels
    containers: tuple[Container, ...]


@dataclass(frozen=True, slots=True)
class Service:
    """`ports`: number and labels of each."""

    key: Key
    labels: Labels
    ports: tuple[tuple[int, Labels], ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address at one port. `pod`: whose it is."""

    address: str
    port: int | None
    labels: Labels
    pod: Key | None


@dataclass(frozen=True, slots=True)
class EndpointSet:
    """Of an Endpoints or an EndpointSlice object. `service`: to which it belongs."""

    key: Key
    labels: Labels
    service: Key | None
    endpoints: tuple[Endpoint, ...]


Kept = Pod | Service | EndpointSet


def keep_pod(content: Any) -> Pod:
    """Raises KeyError, TypeError, ValueError for what is no pod."""
    metadata, spec, status = content["metadata"], content.get("spec") or {}, content.get("status") or {}
    ready = [one.get("status", "") for one in status.get("conditions") or () if one.get("type") == "Ready"]
    labels = {
        f"{META}pod_ip": status.get("podIP", ""),
        f"{META}pod_ready": (ready[0] if ready else "Unknown").lower(),
        f"{META}pod_phase": status.get("phase", ""),
        f"{META}pod_node_name": spec.get("nodeName", ""),
        f"{META}pod_host_ip": status.get("hostIP", ""),
        f"{META}pod_uid": metadata.get("uid", ""),
        **object_labels(metadata, "pod"),
    }
    owner: Any = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), {})
    for name in ("kind", "name"):
        if owner.get(name):
            labels[f"{META}pod_controller_{name}"] = owner[name]
    containers = [
        *_containers(spec.get("containers"), status.get("containerStatuses"), init=False),
        *_containers(spec.get("initContainers"), status.get("initContainerStatuses"), init=True),
    ]
    return Pod(_key(metadata), status.get("podIP", ""), labels, tuple(containers))


def _containers(found: Any, statuses: Any, *, init: bool) -> list[Container]:
    ids = {one.get("name"): one.get("containerID", "") for one in statuses or ()}
    return [
        Container(
            one.get("name", ""),
            one.get("image", ""),
            ids.get(one.get("name"), ""),
            init,
            tuple(
                (int(port["containerPort"]), port.get("name", ""), port.get("protocol", ""))
                for port in one.get("ports") or ()
            ),
        )
        for one in found or ()
    ]


def keep_service(content: Any) -> Service:
    """Raises KeyError, TypeError, ValueError for what is no service."""
    metadata, spec = content["metadata"], content.get("spec") or {}
    kind = spec.get("type", "")
    common = {f"{META}service_type": kind}
    if kind == "ExternalName":
        common[f"{META}service_external_name"] = spec.get("externalName", "")
    else:
        common[f"{META}service_cluster_ip"] = spec.get("clusterIP", "")
    if kind == "LoadBalancer":
        common[f"{META}service_loadbalancer_ip"] = spec.get("loadBalancerIP", "")
    ports = tuple(
        (
            int(port["port"]),
            {
                f"{META}service_port_name": port.get("name", ""),
                f"{META}service_port_number": str(port["port"]),
                f"{META}service_port_protocol": port.get("protocol", ""),
                **common,
            },
        )
        for port in spec.get("ports") or ()
    )
    labels = {NAMESPACE: metadata["namespace"], **object_labels(metadata, "service")}
    return Service(_key(metadata), labels, ports)


def keep_endpoints(content: Any) -> EndpointSet:
    """Raises KeyError, TypeError, ValueError for what is no Endpoints object."""
    metadata = content["metadata"]
    found = [
        _endpoint(address, port, ready)
        for subset in content.get("subsets") or ()
        for port in subset.get("ports") or ()
        for ready, addresses in (("true", "addresses"), ("false", "notReadyAddresses"))
        for address in subset.get(addresses) or ()
    ]
    return EndpointSet(_key(metadata), object_labels(metadata, "endpoints"), _key(metadata), tuple(found))


def _endpoint(address: Any, port: Any, ready: str) -> Endpoint:
    labels = {
        f"{META}endpoint_port_name": port.get("name", ""),
        f"{META}endpoint_port_protocol": port.get("protocol", ""),
        f"{META}endpoint_ready": ready,
    }
    _add_target(labels, address.get("targetRef"), "endpoint_address_target")
    _add_present(labels, address, (("nodeName", "endpoint_node_name"), ("hostname", "endpoint_hostname")))
    return Endpoint(address["ip"], int(port["port"]), labels, _pod_of(address.get("targetRef")))


def keep_slice(content: Any) -> EndpointSet:
    """Raises KeyError, TypeError, ValueError for what is no EndpointSlice object."""
    metadata = content["metadata"]
    service = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
    found = [
        _slice_endpoint(address, endpoint, port)
        for endpoint in content.get("endpoints") or ()
        for port in content.get("ports") or ()
        for address in endpoint.get("addresses") or ()
    ]
    labels = {
        f"{META}endpointslice_address_type": content.get("addressType", ""),
        **object_labels(metadata, "endpointslice"),
    }
    belongs = None if service is None else (metadata["namespace"], service)
    return EndpointSet(_key(metadata), labels, belongs, tuple(found))


def _slice_endpoint(address: str, endpoint: Any, port: Any) -> Endpoint:
    labels: dict[str, str] = {}
    number = port.get("port")
    of_port = {
        "endpointslice_port_name": port.get("name"),
        "endpointslice_port_protocol": port.get("protocol"),
        "endpointslice_port": None if number is None else str(number),
        "endpointslice_port_app_protocol": port.get("appProtocol"),
    }
    labels |= {f"{META}{name}": value for name, value in of_port.items() if value is not None}
    for name in ("ready", "serving", "terminating"):
        condition = (endpoint.get("conditions") or {}).get(name)
        if condition is not None:
            labels[f"{META}endpointslice_endpoint_conditions_{name}"] = "true" if condition else "false"
    of_endpoint = (
        ("hostname", "endpointslice_endpoint_hostname"),
        ("nodeName", "endpointslice_endpoint_node_name"),
        ("zone", "endpointslice_endpoint_zone"),
    )
    _add_present(labels, endpoint, of_endpoint)
    for name, value in (endpoint.get("deprecatedTopology") or {}).items():
        labels[f"{META}endpointslice_endpoint_topology_{_sanitized(name)}"] = value
        labels[f"{META}endpointslice_endpoint_topology_present_{_sanitized(name)}"] = "true"
    _add_target(labels, endpoint.get("targetRef"), "endpointslice_address_target")
    return Endpoint(address, number, labels, _pod_of(endpoint.get("targetRef")))


def _add_target(labels: dict[str, str], reference: Any, prefix: str) -> None:
    if reference:
        labels[f"{META}{prefix}_kind"] = reference.get("kind", "")
        labels[f"{META}{prefix}_name"] = reference.get("name", "")


def _add_present(labels: dict[str, str], content: Any, names: tuple[tuple[str, str], ...]) -> None:
    for field, label in names:
        if content.get(field) is not None:
            labels[META + label] = content[field]


def _pod_of(reference: Any) -> Key | None:
    if not reference or reference.get("kind") != "Pod":
        return None
    return reference.get("namespace", ""), reference.get("name", "")


def object_labels(metadata: Any, kind: str) -> dict[str, str]:
    """Name, labels and annotations of any object, names made fit for labels."""
    labels = {f"{META}{kind}_name": metadata["name"]}
    for field, word in (("labels", "label"), ("annotations", "annotation")):
        for name, value in (metadata.get(field) or {}).items():
            labels[f"{META}{kind}_{word}_{_sanitized(name)}"] = value
            labels[f"{META}{kind}_{word}present_{_sanitized(name)}"] = "true"
    return labels


def _sanitized(name: str) -> str:
    return _OUTSIDE_NAMES.sub("_", name)


def _key(metadata: Any) -> Key:
    return metadata["namespace"], metadata["name"]


keep: dict[Role, Callable[[Any], Kept]] = {
    Role.POD: keep_pod,
    Role.SERVICE: keep_service,
    Role.ENDPOINTS: keep_endpoints,
    Role.ENDPOINTSLICE: keep_slice,
}
