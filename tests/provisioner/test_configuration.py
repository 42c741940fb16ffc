"""The files and ports of a Milvus server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.local.configuration import are_free, free_ports, port_names, write_configuration
from provisioner.local.files import MAX_RECORD_BYTES, load_list, load_record, save_record
from provisioner.local.install import Installation
from tests.effort import costly

# The shape of the package's own template, with each kind of placeholder that it has.
TEMPLATE = """
# a comment
etcd:
  endpoints: localhost:{{ etcd_port(int): 2379 }}
  log:
    level: {{ etcd_log_level: info }}
    path: {{ etcd_log_path: stdout }}
  data:
    dir: {{ etcd_data_dir }}
localStorage:
  path: {{ local_storage_dir }} # please adjust
log:
  level: info
tls:
  caPemPath:  {{ ca_pem_path: ca.pem }}
common:
  gracefulStopTimeout: 1800
  session:
    ttl: 30
  security:
    authorizationEnabled: {{ authorization_enabled(bool): false }}
    tlsMode: {{ tls_mode(int): 0 }}
"""
ROLES = ["rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode"]


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    package = tmp_path / "milvus/venv/lib/python3.11/site-packages/milvus/data"
    package.mkdir(parents=True)
    sections = "".join(f"{role}:\n  ip: # any\n  port: {{{{ {role}_port(int): 1 }}}}\n" for role in ROLES)
    (package / "config.yaml.template").write_text(TEMPLATE + sections)
    (package / "glog.conf").write_text("--logtostderr")
    return Installation("2.3.5", tmp_path / "milvus")


def test_every_port_is_our_own_and_every_address_loopback(installed: Installation, tmp_path: Path) -> None:
    names = port_names(installed)
    assert {"etcd_port", "etcd_peer_port", "metrics_port", "proxy_port", "dataNode_port"} <= set(names)
    ports = free_ports(names)
    assert len(set(ports.values())) == len(names)
    folder = tmp_path / "cluster"
    write_configuration(installed, folder, ports)

    milvus = yaml.safe_load((folder / "configs/milvus.yaml").read_text())
    for role in ROLES:
        assert milvus[role] == {"ip": "127.0.0.1", "port": ports[f"{role}_port"]}
    assert milvus["etcd"]["endpoints"] == f"127.0.0.1:{ports['etcd_port']}"
    assert milvus["etcd"]["data"]["dir"] == str(folder / "data/etcd")
    assert milvus["localStorage"]["path"] == str(folder / "data")
    assert milvus["common"]["security"] == {"authorizationEnabled": False, "tlsMode": 0}
    assert milvus["tls"]["caPemPath"] == "ca.pem", "what we do not set keeps the package's default"
    etcd = yaml.safe_load((folder / "configs/etcd.yaml").read_text())
    assert etcd["listen-client-urls"] == f"http://127.0.0.1:{ports['etcd_port']}"
    assert etcd["initial-cluster"] == f"default={etcd['listen-peer-urls']}"


def test_a_port_that_is_taken_is_not_free() -> None:
    ports = free_ports(["a", "b"])
    assert are_free(ports)
    with socket.create_server(("127.0.0.1", ports["b"])):
        assert not are_free(ports)
    outgoing_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports.values()) < max(outgoing_from, 32768)


@costly(100)
@given(st.binary(max_size=60) | st.recursive(st.integers(), st.lists).map(lambda value: json.dumps(value).encode()))
def test_a_record_that_is_broken_is_no_record(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "record.json"
    path.write_bytes(content)
    assert load_record(path) is None or isinstance(json.loads(content), dict)
    assert load_list(path) is None or isinstance(json.loads(content), list)


def test_a_record_is_replaced_whole_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    save_record(path, {"a": 1})
    save_record(path, {"b": 2})
    assert load_record(path) == {"b": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]
    save_record(path, {"a": "x" * MAX_RECORD_BYTES})
    assert load_record(path) is None
