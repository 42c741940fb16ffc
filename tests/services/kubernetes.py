"""A real control plane without nodes: etcd and kube-apiserver, with RBAC and tokens of service accounts.

Both are programs that few machines have, built from their Go modules. Where they
are not in PATH their tests are skipped, also with BYOC_REQUIRE_SERVICES=1.
"""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.services.errors import ServiceFailed
from tests.services.http_service import fetch
from tests.services.process import ServiceProcess, ServiceSpec, free_ports

PROGRAMS = ("etcd", "kube-apiserver")
MISSING = tuple(name for name in PROGRAMS if shutil.which(name) is None)
_ADMIN = "token-of-the-test"
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """A running API server; `process` stops and starts it on the same port and data."""

    process: ServiceProcess
    etcd_port: int
    port: int
    ca_file: Path

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Object | None = None, token: str = _ADMIN) -> tuple[int, Object]:
        """Status and JSON of one request, as the administrator unless another's token is given."""
        context = ssl.create_default_context(cafile=self.ca_file)
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def do(self, method: str, path: str, body: Object | None = None) -> Object:
        """What the administrator gets; raises ServiceFailed unless it is 2xx."""
        status, answer = self.ask(method, path, body)
        if not 200 <= status < 300:
            raise ServiceFailed(f"{method} {path} answered {status}: {answer.get('message')}")
        return answer

    def token_of(self, namespace: str, account: str) -> str:
        """A token as a pod of that service account gets it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.do("POST", path, request)["status"]["token"])


@contextmanager
def run_kubernetes(folder: Path) -> Iterator[Kubernetes]:
    """etcd and an API server in front of it, until the block ends. Raises ServiceFailed."""
    client, peer, port = free_ports(3)
    with ServiceProcess(_etcd(folder, client, peer)):
        spec = _api_server(folder, client, port)
        with ServiceProcess(spec) as process:
            yield Kubernetes(process, client, port, folder / "certificates" / "apiserver.crt")


def _etcd(folder: Path, client: int, peer: int) -> ServiceSpec:
    at, beside = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    flags = {
        "name": "one", "data-dir": str(folder / "etcd"), "listen-client-urls": at, "advertise-client-urls": at,
        "listen-peer-urls": beside, "initial-advertise-peer-urls": beside, "initial-cluster": f"one={beside}",
        "unsafe-no-fsync": "true",
    }  # fmt: skip
    return ServiceSpec("etcd", _command("etcd", flags), folder, lambda: _healthy(client))


def _healthy(port: int) -> None:
    fetch(port, "/health")


def _api_server(folder: Path, etcd: int, port: int) -> ServiceSpec:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    accounts, tokens = folder / "accounts.pem", folder / "tokens.csv"
    accounts.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tokens.write_text(f'{_ADMIN},admin,admin,"system:masters"\n')
    flags = {
        "etcd-servers": f"http://127.0.0.1:{etcd}", "secure-port": str(port), "bind-address": "127.0.0.1",
        "cert-dir": str(folder / "certificates"), "authorization-mode": "RBAC", "token-auth-file": str(tokens),
        "service-account-issuer": "https://kubernetes.default.svc", "service-account-key-file": str(accounts),
        "service-account-signing-key-file": str(accounts), "disable-admission-plugins": "ServiceAccount",
        "service-cluster-ip-range": "10.96.0.0/16", "watch-cache": "true",
    }  # fmt: skip
    certificate = folder / "certificates" / "apiserver.crt"

    def ready() -> None:
        context = ssl.create_default_context(cafile=certificate)
        connection = HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
        try:
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {_ADMIN}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ServiceFailed(f"not ready: {answer.read()[-200:]!r}")
        finally:
            connection.close()

    command = _command("kube-apiserver", flags)
    return ServiceSpec("kube-apiserver", command, folder, ready, stop_timeout_seconds=70)


def _command(program: str, flags: Mapping[str, str]) -> Sequence[str]:
    return [shutil.which(program) or program, *(f"--{name}={value}" for name, value in flags.items())]
