"""What reading a window of sealed hours gave is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision: str | None = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Empty: it fills as windows are read."""
    op.create_table(
        "usage_totals",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("question", sa.String(200), primary_key=True),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("revisions", sa.Integer, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Nothing is lost: it is read from the hours again."""
    op.drop_table("usage_totals")
