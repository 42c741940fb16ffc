"""Tables of provisioner."""

from __future__ import annotations

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of provisioner."""


def downgrade() -> None:
    """Drop them."""
