"""Certificates of a benchmark: an authority, its server, and a client that needs no enrolment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel.clock import SystemClock
from kernel.identity import CertificateAuthority, new_private_key, render_csr, render_private_key
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant

TENANT = Tenant(OrganizationId("acme"), ProjectId("prod"))
COLLECTOR = CollectorId("collector-1")


@dataclass(frozen=True)
class Files:
    """Names inside the folder of a benchmark."""

    authority: str = "authority"
    ca: str = "ca.pem"
    server: str = "server.pem"
    server_key: str = "server-key.pem"
    client: str = "client.pem"
    client_key: str = "client-key.pem"
    token: str = "token"


FILES = Files()


def write_identity(folder: Path) -> None:
    """All files of `FILES` in `folder`."""
    authority = CertificateAuthority.create(folder / FILES.authority, "byoc.bench", SystemClock())
    (folder / FILES.ca).write_bytes(authority.certificate_pem)
    server = authority.issue_server(("localhost",))
    assert server.private_key_pem is not None
    (folder / FILES.server).write_bytes(server.certificate_pem)
    (folder / FILES.server_key).write_bytes(server.private_key_pem)
    write_client(folder, TENANT, Path(FILES.client).stem)
    (folder / FILES.token).write_text("token-1\n")


def write_client(folder: Path, tenant: Tenant, name: str) -> None:
    """A certificate of a collector of `tenant` as `name.pem`, with its key."""
    authority, key = CertificateAuthority.open(folder / FILES.authority, SystemClock()), new_private_key()
    client = authority.issue_client(render_csr(key), tenant, COLLECTOR)
    (folder / f"{name}.pem").write_bytes(client.certificate_pem)
    (folder / f"{name}-key.pem").write_bytes(render_private_key(key))
