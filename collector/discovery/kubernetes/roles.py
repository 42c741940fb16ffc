"""From objects to targets, as Prometheus' roles have it. Pure.

Source: prometheus/prometheus, discovery/kubernetes, v3: an endpoint of a pod carries the pod's labels, and
the ports of such a pod that no endpoint names become targets too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from collector.discovery.kubernetes.objects import META, NAMESPACE, Container, EndpointSet, Kept, Key, Pod, Service
from collector.scrape.discovery_settings import Role
from collector.scrape.target import Discovered


def targets_of(role: Role, objects: Mapping[Role, Sequence[Kept]]) -> list[Discovered]:
    """The targets of a role, from the objects of the collections that it needs."""
    if role is Role.POD:
        return [found for one in objects[role] if isinstance(one, Pod) for found in _of_pod(one)]
    if role is Role.SERVICE:
        return [found for one in objects[role] if isinstance(one, Service) for found in _of_service(one)]
    pods = {one.key: one for one in objects[Role.POD] if isinstance(one, Pod)}
    services = {one.key: one for one in objects[Role.SERVICE] if isinstance(one, Service)}
    return [
        found for one in objects[role] if isinstance(one, EndpointSet) for found in _of_set(one, services, pods)
    ]


def _of_pod(pod: Pod) -> Iterator[Discovered]:
    if not pod.ip:  # it is starting, or was evicted
        return
    common = {NAMESPACE: pod.key[0], **pod.labels}
    for container in pod.containers:
        own = {**common, **_container_labels(container), f"{META}pod_container_id": container.id}
        if not container.ports:
            yield Discovered(pod.ip, own)
        for port in container.ports:
            yield Discovered(_join(pod.ip, port[0]), {**own, **_port_labels(port)})


def _of_service(service: Service) -> Iterator[Discovered]:
    namespace, name = service.key
    for number, labels in service.ports:
        yield Discovered(f"{name}.{namespace}.svc:{number}", {**service.labels, **labels})


def _of_set(found: EndpointSet, services: Mapping[Key, Service], pods: Mapping[Key, Pod]) -> Iterator[Discovered]:
    service = services.get(found.service) if found.service is not None else None
    common = {NAMESPACE: found.key[0], **found.labels, **(service.labels if service else {})}
    seen: dict[Key, set[int]] = {}
    for one in found.endpoints:
        address = one.address if one.port is None else _join(one.address, one.port)
        labels = {**common, **one.labels}
        pod = pods.get(one.pod) if one.pod is not None else None
        if pod is not None:
            ports = seen.setdefault(pod.key, set())
            labels |= pod.labels
            if one.port is not None:
                ports.add(one.port)
                labels |= _labels_at(pod.containers, one.port)
        yield Discovered(address, labels)
    for key, ports in seen.items():
        yield from _other_ports(pods[key], common, ports)


def _labels_at(containers: Iterable[Container], number: int) -> dict[str, str]:
    """Of the last container that has this port, as there."""
    labels: dict[str, str] = {}
    for container in containers:
        port = next((port for port in container.ports if port[0] == number), None)
        if port is not None:
            labels = {**_container_labels(container), **_port_labels(port)}
    return labels


def _other_ports(pod: Pod, common: Mapping[str, str], taken: set[int]) -> Iterator[Discovered]:
    if not pod.ip:
        return
    for container in pod.containers:
        for port in container.ports:
            if port[0] not in taken:
                labels = {**common, **pod.labels, **_container_labels(container), **_port_labels(port)}
                yield Discovered(_join(pod.ip, port[0]), labels)


def _container_labels(container: Container) -> dict[str, str]:
    return {
        f"{META}pod_container_name": container.name,
        f"{META}pod_container_image": container.image,
        f"{META}pod_container_init": "true" if container.init else "false",
    }


def _port_labels(port: tuple[int, str, str]) -> dict[str, str]:
    number, name, protocol = port
    return {
        f"{META}pod_container_port_number": str(number),
        f"{META}pod_container_port_name": name,
        f"{META}pod_container_port_protocol": protocol,
    }


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
