"""Tables of kernel.identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of kernel.identity."""
    op.create_table(
        "enrolment_tokens",
        sa.Column("token_sha256", sa.String(64), nullable=False),
        *_collector(),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("redeemed_ms", sa.BigInteger),
        sa.Column("cancelled_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_enrolment_tokens"),
    )
    op.create_index("ix_enrolment_tokens_collector", "enrolment_tokens", ["organization", "project", "collector"])
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(40), nullable=False),
        *_collector(),
        sa.Column("issued_ms", sa.BigInteger, nullable=False),
        sa.Column("not_after_ms", sa.BigInteger, nullable=False),
        sa.Column("renewed_from", sa.String(40)),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
    )
    op.create_index("ix_certificates_collector", "certificates", ["organization", "project", "collector"])
    op.create_table(
        "revocations",
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger, nullable=False),
        sa.Column("not_after_ms", sa.BigInteger),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("serial", name="pk_revocations"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("revocations", "certificates", "enrolment_tokens"):
        op.drop_table(table)


def _collector() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(63), nullable=False) for name in ("organization", "project", "collector")]
