"""Tables of alerts."""

from __future__ import annotations

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of alerts."""


def downgrade() -> None:
    """Drop them."""
