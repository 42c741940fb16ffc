"""The life of invoices: events, further entries, approvals, prepaid credits. All of it append-only, by trigger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels = None
depends_on = None

APPEND_ONLY: dict[str, tuple[str, ...]] = {
    "billing_events": ("number", "position"),
    "billing_entries": ("number", "event", "position"),
    "billing_approvals": ("content_sha256",),
    "billing_grants": ("grant_id",),
    "billing_draws": ("number", "event", "grant_id"),
}


def upgrade() -> None:
    """Create the tables and their triggers."""
    _create_events()
    _create_credits()
    for table, key in APPEND_ONLY.items():
        if op.get_bind().dialect.name == "sqlite":
            _guard_sqlite(table, key)
        else:
            _guard_postgresql(table)


def downgrade() -> None:
    """Drop them."""
    for table in reversed(APPEND_ONLY):
        op.drop_table(table)


def _of_a_document(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["number"], ["billing_invoices.number"], name=f"fk_{table}_number_billing_invoices"
    )


def _create_events() -> None:
    op.create_table(
        "billing_events",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("minor_units", sa.BigInteger()),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", "position", name="pk_billing_events"),
        _of_a_document("billing_events"),
    )
    op.create_table(
        "billing_entries",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("minor_units", sa.BigInteger(), nullable=False),
        sa.Column("booked_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", "event", "position", name="pk_billing_entries"),
        _of_a_document("billing_entries"),
    )
    op.create_table(
        "billing_approvals",
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("approved_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("content_sha256", name="pk_billing_approvals"),
    )


def _create_credits() -> None:
    op.create_table(
        "billing_grants",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("minor_units", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("granted_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger()),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("grant_id", name="pk_billing_grants"),
    )
    op.create_index("ix_billing_grants_organization", "billing_grants", ["organization"])
    op.create_table(
        "billing_draws",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("minor_units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", "event", "grant_id", name="pk_billing_draws"),
        _of_a_document("billing_draws"),
        sa.ForeignKeyConstraint(
            ["grant_id"], ["billing_grants.grant_id"], name="fk_billing_draws_grant_id_billing_grants"
        ),
    )


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
