"""Enrolment: a token, given to the customer once, becomes a certificate; a certificate becomes the next one.

Everything here blocks on the database: from the event loop, call it by `asyncio.to_thread`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import InvalidInput
from kernel.identity.authority import CertificateAuthority, IssuedCertificate
from kernel.identity.csr import parse_csr
from kernel.identity.errors import TokenRefused
from kernel.identity.models import enrolment_tokens
from kernel.identity.peer import Identity
from kernel.identity.register import AuditTrail, check_not_revoked, lock_collector, record_certificate
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant, parse_customer_project

TOKEN_PREFIX = "byoc-enrol-"  # so that scanners for leaked secrets can know it # noqa: S105
_TOKEN = re.compile(re.escape(TOKEN_PREFIX) + r"[A-Za-z0-9_-]{43}", re.ASCII)
MAX_LIFETIME_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class TokenRow:
    """What is known of a token, which is not the token."""

    tenant: Tenant
    collector: CollectorId
    created_ms: int
    expires_ms: int
    redeemed_ms: int | None
    cancelled_ms: int | None

    def state(self, now_ms: int) -> str:
        """`redeemed`, `cancelled`, `expired` or `open`."""
        if self.redeemed_ms is not None:
            return "redeemed"
        if self.cancelled_ms is not None:
            return "cancelled"
        return "expired" if now_ms >= self.expires_ms else "open"


class EnrolmentTokens:
    """Single-use tokens that expire, and the certificates they become."""

    def __init__(self, database: Database, clock: Clock, audit: AuditTrail | None = None) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit

    def create(
        self, tenant: Tenant, collector: CollectorId, lifetime_seconds: int = 3600, actor: str = "vendor"
    ) -> str:
        """A new token, 256 random bits; only its hash is stored, so it can't be shown again.

        Raises InvalidInput when the lifetime is not from 1 second to 7 days, or the project is the vendor's own.
        """
        parse_customer_project(tenant.project, "enrolment token")
        if not 1 <= lifetime_seconds <= MAX_LIFETIME_SECONDS:
            allowed = f"1 to {MAX_LIFETIME_SECONDS} seconds"
            raise InvalidInput.single("enrolment token", "lifetime", lifetime_seconds, allowed)
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        now_ms = self._clock.now_ms()
        row = {
            "token_sha256": _hash(token),
            "organization": tenant.organization,
            "project": tenant.project,
            "collector": collector,
            "created_ms": now_ms,
            "expires_ms": now_ms + lifetime_seconds * 1000,
        }

        def insert(connection: sa.Connection) -> None:
            connection.execute(enrolment_tokens.insert().values(row))
            self._note(
                connection,
                actor,
                "enrolment_token_created",
                f"{tenant}/{collector}",
                {"expires_ms": row["expires_ms"]},
            )

        self._database.transact(insert)
        return token

    def redeem(self, token: str, csr_pem: bytes, authority: CertificateAuthority) -> IssuedCertificate:
        """Use up the token and sign, in one transaction with the record of the certificate.

        Of concurrent calls exactly one wins. A CSR that is refused uses nothing up. If the answer is lost on its
        way the token is gone all the same: make another. Raises TokenRefused, InvalidRequest, DatabaseUnavailable.
        """
        parse_csr(csr_pem)
        if not _TOKEN.fullmatch(token):
            raise _refusal()

        def redeem(connection: sa.Connection) -> IssuedCertificate:
            tenant, collector = self._use_up(connection, token)
            lock_collector(connection, tenant, collector)
            issued = authority.issue_client(csr_pem, tenant, collector)
            record_certificate(connection, tenant, collector, issued)
            who = f"{tenant}/{collector}"
            self._note(connection, who, "collector_enrolled", who, {"serial": issued.serial})
            return issued

        return self._database.transact(redeem)

    def renew(self, identity: Identity, csr_pem: bytes, authority: CertificateAuthority) -> IssuedCertificate:
        """The next certificate of who holds `identity` now. Raises CertificateRevoked, InvalidRequest."""
        parse_csr(csr_pem)

        def renew(connection: sa.Connection) -> IssuedCertificate:
            lock_collector(connection, identity.tenant, identity.collector)
            check_not_revoked(connection, identity.serial)
            issued = authority.issue_client(csr_pem, identity.tenant, identity.collector)
            record_certificate(connection, identity.tenant, identity.collector, issued, identity.serial)
            details = {"serial": issued.serial, "renewed_from": identity.serial}
            self._note(connection, identity.who, "certificate_renewed", identity.who, details)
            return issued

        return self._database.transact(renew)

    def list(self, tenant: Tenant | None = None) -> list[TokenRow]:
        """The tokens, newest first, of one tenant or of all."""
        table = enrolment_tokens
        query = sa.select(table).order_by(table.c.created_ms.desc())
        if tenant:
            query = query.where(table.c.organization == tenant.organization, table.c.project == tenant.project)
        rows = self._database.transact(lambda connection: connection.execute(query).all())
        return [
            TokenRow(
                Tenant(OrganizationId(row.organization), ProjectId(row.project)),
                CollectorId(row.collector),
                row.created_ms,
                row.expires_ms,
                row.redeemed_ms,
                row.cancelled_ms,
            )
            for row in rows
        ]

    def _use_up(self, connection: sa.Connection, token: str) -> tuple[Tenant, CollectorId]:
        now_ms = self._clock.now_ms()
        table = enrolment_tokens
        mine = table.c.token_sha256 == _hash(token)
        # One statement decides: of two transactions the second finds no row that it may change.
        used = connection.execute(
            table.update()
            .where(mine, table.c.redeemed_ms.is_(None), table.c.cancelled_ms.is_(None), table.c.expires_ms > now_ms)
            .values(redeemed_ms=now_ms)
        )
        if used.rowcount != 1:
            raise _refusal()
        row = connection.execute(sa.select(table).where(mine)).one()
        return Tenant(OrganizationId(row.organization), ProjectId(row.project)), CollectorId(row.collector)

    def _note(
        self, connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, object]
    ) -> None:
        if self._audit:
            self._audit.append(connection, actor, action, subject, details)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _refusal() -> TokenRefused:
    return TokenRefused("the enrolment token is unknown, used or expired: ask the vendor for a new one")
