"""Tables of billing, and the triggers that keep what was issued as it was issued.

A final invoice, its postings and the snapshots of contracts, licences and price books are append-only on both
databases. SQLite's INSERT OR REPLACE deletes without firing delete triggers, so there an insert over an existing
key is refused too. Counters only count up by one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None

# Table -> its keys: primary, then unique.
APPEND_ONLY: dict[str, list[tuple[str, ...]]] = {
    "billing_price_books": [("book", "version")],
    "billing_contracts": [("contract", "version")],
    "billing_licences": [("licence", "version")],
    "billing_invoices": [("number",), ("legal_entity", "year", "sequence"), ("contract", "kind", "period")],
    "billing_postings": [("number", "position")],
}
DROPPED = [*reversed(APPEND_ONLY), "billing_counters", "billing_reservations", "billing_accounts"]


def upgrade() -> None:
    """Create the tables of billing and their triggers."""
    _create_snapshots()
    _create_capacity()
    _create_invoices()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgresql()


def downgrade() -> None:
    """Drop them."""
    op.drop_table("billing_outbox")
    for table in DROPPED:
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION byoc_billing_append_only()")
        op.execute("DROP FUNCTION byoc_billing_count_up()")


def _create_snapshots() -> None:
    op.create_table(
        "billing_price_books",
        sa.Column("book", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("book", "version", name="pk_billing_price_books"),
    )
    for table, identifier in (("billing_contracts", "contract"), ("billing_licences", "licence")):
        op.create_table(
            table,
            sa.Column(identifier, sa.Text(), nullable=False),
            sa.Column("version", sa.Integer(), nullable=False),
            sa.Column("organization", sa.Text(), nullable=False),
            sa.Column("snapshot", sa.Text(), nullable=False),
            sa.Column("sha256", sa.Text(), nullable=False),
            sa.Column("added_ms", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint(identifier, "version", name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_organization", table, ["organization"])


def _create_capacity() -> None:
    op.create_table(
        "billing_accounts",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("organization", name="pk_billing_accounts"),
    )
    op.create_table(
        "billing_reservations",
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("milli_vcpu", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("reserved_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("organization", "subject", name="pk_billing_reservations"),
    )


def _create_invoices() -> None:
    op.create_table(
        "billing_counters",
        sa.Column("legal_entity", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("last_sequence", sa.Integer(), nullable=False),
        sa.Column("last_issued_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("legal_entity", "year", name="pk_billing_counters"),
    )
    op.create_table(
        "billing_invoices",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("legal_entity", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("gross", sa.Text(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_billing_invoices"),
        sa.UniqueConstraint("legal_entity", "year", "sequence", name="uq_billing_invoices_sequence"),
        sa.UniqueConstraint("contract", "kind", "period", name="uq_billing_invoices_period"),
    )
    op.create_index("ix_billing_invoices_organization", "billing_invoices", ["organization"])
    _create_bookings()


def _create_bookings() -> None:
    op.create_table(
        "billing_postings",
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("minor_units", sa.BigInteger(), nullable=False),
        sa.Column("booked_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", "position", name="pk_billing_postings"),
        sa.ForeignKeyConstraint(
            ["number"], ["billing_invoices.number"], name="fk_billing_postings_number_billing_invoices"
        ),
    )
    op.create_table(
        "billing_outbox",
        sa.Column("position", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("sent_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("position", name="pk_billing_outbox"),
        sa.ForeignKeyConstraint(
            ["number"], ["billing_invoices.number"], name="fk_billing_outbox_number_billing_invoices"
        ),
    )


def _guard_sqlite() -> None:
    for table, keys in APPEND_ONLY.items():
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        taken = " OR ".join("(" + " AND ".join(f"{name} = NEW.{name}" for name in key) + ")" for key in keys)
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - names of this file
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: that key is taken'); END"
        )
    op.execute(
        "CREATE TRIGGER billing_counters_count_up BEFORE UPDATE ON billing_counters "
        "WHEN NEW.last_sequence <> OLD.last_sequence + 1 OR NEW.last_issued_ms < OLD.last_issued_ms "
        "BEGIN SELECT RAISE(ABORT, 'billing_counters counts up by one'); END"
    )
    op.execute(
        "CREATE TRIGGER billing_counters_no_delete BEFORE DELETE ON billing_counters "
        "BEGIN SELECT RAISE(ABORT, 'billing_counters counts up by one'); END"
    )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION byoc_billing_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION byoc_billing_append_only()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION byoc_billing_append_only()"
        )
    op.execute(
        "CREATE FUNCTION byoc_billing_count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_OP <> 'UPDATE' OR NEW.last_sequence <> OLD.last_sequence + 1 "
        "OR NEW.last_issued_ms < OLD.last_issued_ms "
        "THEN RAISE EXCEPTION 'billing_counters counts up by one'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER billing_counters_count_up BEFORE UPDATE OR DELETE ON billing_counters "
        "FOR EACH ROW EXECUTE FUNCTION byoc_billing_count_up()"
    )
    op.execute(
        "CREATE TRIGGER billing_counters_no_truncate BEFORE TRUNCATE ON billing_counters "
        "FOR EACH STATEMENT EXECUTE FUNCTION byoc_billing_count_up()"
    )
