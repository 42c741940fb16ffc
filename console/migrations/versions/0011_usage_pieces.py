"""Sealed hours of the licence meter keep their quarters, and where in them data is missing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows sealed before have none; they stay as they are."""
    op.add_column("usage_rows", sa.Column("pieces", sa.Text, nullable=True))


def downgrade() -> None:
    """What was kept is lost; the hours' own integers are not."""
    op.drop_column("usage_rows", "pieces")
