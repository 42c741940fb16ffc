"""Sealed hours of the catalogue's meters keep where their samples stand: file, row group and rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision: str | None = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows sealed before have none; they stay as they are."""
    op.add_column("meter_rows", sa.Column("places", sa.Text, nullable=True))


def downgrade() -> None:
    """What was kept is lost; the hours still name their files."""
    op.drop_column("meter_rows", "places")
