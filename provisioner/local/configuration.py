"""The files a Milvus server reads: `milvus.yaml` from the package's own template, and the embedded etcd's."""

from __future__ import annotations

import re
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from provisioner.local.files import save_text
from provisioner.local.install import Installation
from provisioner.local.process import LaunchFailed

LOOPBACK = "127.0.0.1"
# `{{ name }}`, `{{ name: default }}`, `{{ name(type): default }}`, as the milvus package writes them.
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*(?:\(\w+\))?\s*(?::\s*([^}]*?))?\s*\}\}")
_OWN_PORTS = ("etcd_peer_port", "metrics_port")
_ROLES = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
GRACE_SECONDS = 2  # one node has nobody to hand its segments to, and would always wait it out
SESSION_SECONDS = 10  # after a restart, what a dead session watched is not flushed until it expires
_FIRST_PORT = 20000


def port_names(installed: Installation) -> list[str]:
    """Every port a server of that version opens, by the template's names, and our own two."""
    template = _template(installed)
    named = [match.group(1) for match in _PLACEHOLDER.finditer(template) if match.group(1).endswith("_port")]
    return sorted({*named, *_OWN_PORTS})


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free port for each name, below the range that the kernel gives to outgoing connections.

    All are held together while they are chosen, so no two are the same. Raises LaunchFailed.
    """
    ports: dict[str, int] = {}
    with ExitStack() as held:
        for name in names:
            ports[name] = _hold_one(held)
    return ports


def _hold_one(held: ExitStack) -> int:
    for _ in range(200):
        port = secrets.randbelow(_outgoing_ports_from() - _FIRST_PORT) + _FIRST_PORT
        try:
            held.enter_context(_bound(port))
        except OSError:
            continue
        return port
    raise LaunchFailed(f"no free port from {_FIRST_PORT} to {_outgoing_ports_from()}: stop a cluster and try again")


def _outgoing_ports_from() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first > _FIRST_PORT + 1000 else 32768


def are_free(ports: Mapping[str, int]) -> bool:
    """Whether every port could be taken now."""
    try:
        with ExitStack() as held:
            for port in ports.values():
                held.enter_context(_bound(port))
    except OSError:
        return False
    return True


def _bound(port: int) -> socket.socket:
    # On all interfaces, as Milvus binds them: a port that is free on loopback alone is of no use.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def write_configuration(installed: Installation, folder: Path, ports: Mapping[str, int]) -> None:
    """Write `configs/milvus.yaml`, `configs/etcd.yaml` and `configs/glog.conf` below the cluster's folder."""
    configs = folder / "configs"
    save_text(configs / "milvus.yaml", yaml.safe_dump(_milvus(installed, folder, ports), sort_keys=False))
    save_text(configs / "etcd.yaml", yaml.safe_dump(_etcd(folder, ports), sort_keys=False))
    shutil.copyfile(installed.package_data / "glog.conf", configs / "glog.conf")


def _milvus(installed: Installation, folder: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    values = {
        **{name: str(port) for name, port in ports.items()},
        "etcd_data_dir": str(folder / "data/etcd"),
        "local_storage_dir": str(folder / "data"),
        "rocksmq_data_dir": str(folder / "data/rocksmq"),
        "etcd_log_path": str(folder / "logs/etcd.log"),
        "system_log_path": "",
        "etcd_log_level": "error",
    }
    text = _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(2) or '""'), _template(installed))
    content: dict[str, Any] = yaml.safe_load(text)
    content["etcd"]["endpoints"] = f"{LOOPBACK}:{ports['etcd_port']}"
    content["log"]["level"] = "warn"
    content["common"]["gracefulStopTimeout"] = GRACE_SECONDS
    content["common"]["session"]["ttl"] = SESSION_SECONDS
    for role in _ROLES:
        content[role]["ip"] = LOOPBACK
    return content


def _etcd(folder: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    client, peer = (f"http://{LOOPBACK}:{ports[name]}" for name in ("etcd_port", "etcd_peer_port"))
    return {
        "name": "default",
        "data-dir": str(folder / "data/etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "logger": "zap",
        "log-level": "error",
    }


def _template(installed: Installation) -> str:
    return (installed.package_data / "config.yaml.template").read_text(encoding="utf-8")
