"""Tables of kernel.audit."""

from __future__ import annotations

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of kernel.audit."""


def downgrade() -> None:
    """Drop them."""
