"""Tables of metering."""

from __future__ import annotations

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of metering."""


def downgrade() -> None:
    """Drop them."""
