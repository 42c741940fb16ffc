"""Objects as kube-apiserver 1.34 answers them for a small Milvus: managed fields and empty ones left out.

They are valid by the OpenAPI schemas of 1.34 (`kubernetes-validate --strict`).
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
CREATED = "2026-11-01T08:00:00Z"


def _metadata(name: str, namespace: str = "milvus", **more: Any) -> Object:
    return {"name": name, "namespace": namespace, "uid": f"uid-{name}", "creationTimestamp": CREATED, **more}


def pod(name: str = "milvus-0", ip: str = "10.244.0.7", **status: Any) -> Object:
    return {
        "metadata": _metadata(
            name,
            generateName="milvus-",
            labels={"app.kubernetes.io/name": "milvus", "component": "proxy", "empty": ""},
            annotations={"prometheus.io/scrape": "true", "note": 'with "quotes" and ünïcode'},
            ownerReferences=[
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "milvus", "uid": "u", "controller": True,
                 "blockOwnerDeletion": True}
            ],
        ),
        "spec": {
            "nodeName": "node-1",
            "restartPolicy": "Always",
            "initContainers": [{"name": "config", "image": "milvus-config:1", "command": ["sh"], "resources": {}}],
            "containers": [
                {
                    "name": "milvus",
                    "image": "milvusdb/milvus:v2.3.5",
                    "ports": [
                        {"name": "grpc", "containerPort": 19530, "protocol": "TCP"},
                        {"name": "metrics", "containerPort": 9091, "protocol": "TCP"},
                    ],
                    "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
                },
                {"name": "sidecar", "image": "envoy:v1", "resources": {}},
            ],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Initialized", "status": "True", "lastTransitionTime": CREATED},
                {"type": "Ready", "status": "True", "lastTransitionTime": CREATED},
            ],
            "hostIP": "192.168.1.5",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "containerStatuses": [
                {"name": "milvus", "containerID": "containerd://a1", "image": "milvusdb/milvus:v2.3.5",
                 "imageID": "sha256:1", "ready": True, "restartCount": 0,
                 "state": {"running": {"startedAt": CREATED}}}
            ],
            "initContainerStatuses": [
                {"name": "config", "containerID": "containerd://b2", "image": "milvus-config:1", "ready": True,
                 "restartCount": 0, "imageID": "sha256:2", "state": {"terminated": {"exitCode": 0}}}
            ],
            **status,
        },
    }  # fmt: skip


def service(name: str = "milvus", **spec: Any) -> Object:
    return {
        "metadata": _metadata(
            name, labels={"app.kubernetes.io/name": "milvus"}, annotations={"team/on-call": "db"}
        ),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.96.0.20",
            "clusterIPs": ["10.96.0.20"],
            "selector": {"app.kubernetes.io/name": "milvus"},
            "ports": [{"name": "metrics", "protocol": "TCP", "port": 9091, "targetPort": "metrics"}],
            **spec,
        },
        "status": {"loadBalancer": {}},
    }


def endpoints(name: str = "milvus") -> Object:
    reference = {"kind": "Pod", "namespace": "milvus", "name": "milvus-0", "uid": "uid-milvus-0"}
    return {
        "metadata": _metadata(name, labels={"endpoints.kubernetes.io/managed-by": "endpoint-controller"}),
        "subsets": [
            {
                "addresses": [
                    {"ip": "10.244.0.7", "nodeName": "node-1", "targetRef": reference, "hostname": "milvus-0"},
                    {"ip": "203.0.113.9"},
                ],
                "notReadyAddresses": [
                    {"ip": "10.244.0.8", "nodeName": "node-1", "targetRef": {**reference, "name": "not-there"}}
                ],
                "ports": [{"name": "metrics", "port": 9091, "protocol": "TCP"}],
            }
        ],
    }


def endpoint_slice(name: str = "milvus-x7k2p", of: str = "milvus") -> Object:
    return {
        "metadata": _metadata(name, labels={"kubernetes.io/service-name": of}),
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.244.0.7"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "hostname": "milvus-0",
                "nodeName": "node-1",
                "zone": "eu-1a",
                "targetRef": {"kind": "Pod", "namespace": "milvus", "name": "milvus-0", "uid": "uid-milvus-0"},
            },
            {"addresses": ["10.244.0.9"], "conditions": {"ready": False}},
        ],
        "ports": [{"name": "metrics", "port": 9091, "protocol": "TCP", "appProtocol": "http"}],
    }
