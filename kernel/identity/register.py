"""What is written down of certificates and tokens, as steps inside a transaction of the caller."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Protocol

import sqlalchemy as sa

from kernel.clock import to_ms
from kernel.identity.authority import IssuedCertificate
from kernel.identity.errors import CertificateRevoked
from kernel.identity.models import certificates, enrolment_tokens, revocations
from kernel.ids import CollectorId, Tenant

_ADVISORY_SPACE = 0x69640000  # "id": keeps our advisory locks apart from those of others


class AuditTrail(Protocol):
    """What `kernel.audit.AuditLog` offers."""

    def append(
        self, connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, Any]
    ) -> object:
        """Write one entry inside the transaction of `connection`."""


def lock_collector(connection: sa.Connection, tenant: Tenant, collector: CollectorId) -> None:
    """Until the transaction ends, nobody else issues to or revokes this collector.

    Otherwise a renewal could add a certificate that a revocation at the same moment does not see. SQLite's
    transactions are serial already.
    """
    if connection.dialect.name == "postgresql":
        key = zlib.crc32(f"{tenant}/{collector}".encode()) - 2**31
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_SPACE, key)))


def record_certificate(
    connection: sa.Connection,
    tenant: Tenant,
    collector: CollectorId,
    issued: IssuedCertificate,
    renewed_from: str | None = None,
) -> None:
    """Write down a certificate that is about to be handed out."""
    connection.execute(
        certificates.insert().values(
            serial=issued.serial,
            organization=tenant.organization,
            project=tenant.project,
            collector=collector,
            issued_ms=to_ms(issued.issued_at),
            not_after_ms=to_ms(issued.not_after),
            renewed_from=renewed_from,
        )
    )


def check_not_revoked(connection: sa.Connection, serial: str) -> None:
    """Raises CertificateRevoked."""
    found = connection.execute(sa.select(revocations.c.serial).where(revocations.c.serial == serial)).first()
    if found:
        raise CertificateRevoked(f"certificate {serial} was revoked: enrol the collector again")


def of_collector(table: sa.Table, tenant: Tenant, collector: CollectorId) -> sa.ColumnElement[bool]:
    """The condition that a row of `table` is about this collector."""
    return sa.and_(
        table.c.organization == tenant.organization,
        table.c.project == tenant.project,
        table.c.collector == collector,
    )


def cancel_tokens(connection: sa.Connection, tenant: Tenant, collector: CollectorId, now_ms: int) -> int:
    """Cancel the collector's tokens that nobody has used; how many."""
    table = enrolment_tokens
    cancelled = connection.execute(
        table.update()
        .where(
            of_collector(table, tenant, collector), table.c.redeemed_ms.is_(None), table.c.cancelled_ms.is_(None)
        )
        .values(cancelled_ms=now_ms)
    )
    return cancelled.rowcount
