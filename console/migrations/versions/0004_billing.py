"""Tables of billing."""

from __future__ import annotations

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of billing."""


def downgrade() -> None:
    """Drop them."""
