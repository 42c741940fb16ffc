"""Contracts, licences and price books keep their content as JSON beside their text; rows of before have none."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels = None
depends_on = None

TABLES = ("billing_price_books", "billing_contracts", "billing_licences")


def upgrade() -> None:
    """Add the column."""
    for table in TABLES:
        op.add_column(table, sa.Column("content", sa.Text()))


def downgrade() -> None:
    """Drop it."""
    for table in TABLES:
        op.drop_column(table, "content")
