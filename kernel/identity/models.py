"""Tables of identity: tokens given out, certificates signed, certificates revoked."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

enrolment_tokens = sa.Table(
    "enrolment_tokens",
    metadata,
    sa.Column("token_sha256", sa.String(64), primary_key=True),  # the token itself is stored nowhere
    sa.Column("organization", sa.String(63), nullable=False),
    sa.Column("project", sa.String(63), nullable=False),
    sa.Column("collector", sa.String(63), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger, nullable=False),
    sa.Column("redeemed_ms", sa.BigInteger),
    sa.Column("cancelled_ms", sa.BigInteger),  # by a revocation of the collector
    sa.Index("ix_enrolment_tokens_collector", "organization", "project", "collector"),
)

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),  # lower-case hexadecimal
    sa.Column("organization", sa.String(63), nullable=False),
    sa.Column("project", sa.String(63), nullable=False),
    sa.Column("collector", sa.String(63), nullable=False),
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("not_after_ms", sa.BigInteger, nullable=False),
    sa.Column("renewed_from", sa.String(40)),  # serial that asked for it; none: enrolled by a token
    sa.Index("ix_certificates_collector", "organization", "project", "collector"),
)

revocations = sa.Table(
    "revocations",
    metadata,
    sa.Column("serial", sa.String(40), primary_key=True),
    sa.Column("revoked_ms", sa.BigInteger, nullable=False),
    sa.Column("not_after_ms", sa.BigInteger),  # none: not known, kept for ever
    sa.Column("reason", sa.String(200), nullable=False),
)
