"""A vendor's identity, small: a database, an authority, tokens and revocations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from console.migrate import migrate
from kernel.audit import AuditLog
from kernel.clock import Clock, SystemClock
from kernel.database import Database
from kernel.identity import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from tests.databases import open_migrated

ACME = Tenant(OrganizationId("acme"), ProjectId("prod"))
OTHER = Tenant(OrganizationId("other"), ProjectId("prod"))
COLLECTOR = CollectorId("collector-1")


@dataclass
class IdentityWorld:
    folder: Path
    clock: Clock
    database: Database
    authority: CertificateAuthority
    audit: AuditLog
    tokens: EnrolmentTokens
    revocations: Revocations


def make_world(folder: Path, url: str | None = None, clock: Clock | None = None) -> IdentityWorld:
    """All of it in `folder`; the caller closes the database."""
    clock = clock or SystemClock()
    if url is None:
        database = open_migrated(folder / "byoc.sqlite")
    else:
        database = Database(url)
        migrate(database)
    audit = AuditLog(database, clock)
    return IdentityWorld(
        folder,
        clock,
        database,
        CertificateAuthority.create(folder / "authority", "byoc.test", clock),
        audit,
        EnrolmentTokens(database, clock, audit),
        Revocations(database, clock, audit),
    )
