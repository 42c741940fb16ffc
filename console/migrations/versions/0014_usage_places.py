"""Sealed hours of the licence meter keep where their samples stand: file, row group and rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision: str | None = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows sealed before have none; they stay as they are."""
    op.add_column("usage_rows", sa.Column("places", sa.Text, nullable=True))


def downgrade() -> None:
    """What was kept is lost; the hours still name their files."""
    op.drop_column("usage_rows", "places")
