"""Signatures of documents, and the chained checkpoints over them. All of it append-only, by trigger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, tuple[str, ...]] = {
    "billing_signatures": ("number",),
    "billing_checkpoints": ("legal_entity", "position"),
    "billing_checkpoint_leaves": ("legal_entity", "position"),
}


def upgrade() -> None:
    """Create the tables and their triggers."""
    op.create_table(
        "billing_signatures",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("legal_entity", sa.Text(), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_billing_signatures"),
        sa.ForeignKeyConstraint(
            ["number"], ["billing_invoices.number"], name="fk_billing_signatures_number_billing_invoices"
        ),
    )
    op.create_index("ix_billing_signatures_legal_entity", "billing_signatures", ["legal_entity"])
    op.create_table(
        "billing_checkpoints",
        sa.Column("legal_entity", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("legal_entity", "position", name="pk_billing_checkpoints"),
    )
    op.create_table(
        "billing_checkpoint_leaves",
        sa.Column("legal_entity", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("leaf", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("legal_entity", "position", name="pk_billing_checkpoint_leaves"),
        sa.UniqueConstraint("number", name="uq_billing_checkpoint_leaves_number"),
        sa.ForeignKeyConstraint(
            ["number"],
            ["billing_signatures.number"],
            name="fk_billing_checkpoint_leaves_number_billing_signatures",
        ),
    )
    for table, key in APPEND_ONLY.items():
        if op.get_bind().dialect.name == "sqlite":
            _guard_sqlite(table, key)
        else:
            _guard_postgresql(table)


def downgrade() -> None:
    """Drop them."""
    for table in reversed(APPEND_ONLY):
        op.drop_table(table)


def _guard_sqlite(table: str, key: tuple[str, ...]) -> None:
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
    taken = " AND ".join(f"{name} = NEW.{name}" for name in key)
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - names of this file
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: that key is taken'); END"
    )


def _guard_postgresql(table: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION byoc_billing_append_only()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION byoc_billing_append_only()"
    )
