"""Documents of the outbox are claimed by the process that hands them over."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is claimed yet."""
    op.add_column("billing_outbox", sa.Column("claimed_until_ms", sa.BigInteger, nullable=True))


def downgrade() -> None:
    """Without claims two processes may mail one document."""
    op.drop_column("billing_outbox", "claimed_until_ms")
