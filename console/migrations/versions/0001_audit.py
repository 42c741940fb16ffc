"""Tables of kernel.audit, and the triggers that keep their rows as they were written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels = None
depends_on = None

_REFUSE = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit log is append-only: % refused', TG_OP; END $$
"""


def upgrade() -> None:
    """Create the tables of kernel.audit."""
    op.create_table(
        "audit_events",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": "0" * 64}])
    if op.get_bind().dialect.name == "sqlite":
        _refuse_on_sqlite("audit_events", "UPDATE")
        _refuse_on_sqlite("audit_events", "DELETE")
        _refuse_on_sqlite("audit_head", "DELETE")
    else:
        op.execute(_REFUSE)
        _refuse_on_postgresql("audit_events", "UPDATE OR DELETE OR TRUNCATE")
        _refuse_on_postgresql("audit_head", "DELETE OR TRUNCATE")


def _refuse_on_sqlite(table: str, operation: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{operation.lower()} BEFORE {operation} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, 'the audit log is append-only: {operation} refused'); END"
    )


def _refuse_on_postgresql(table: str, operations: str) -> None:
    # For each statement, as TRUNCATE has no rows: also an UPDATE of no row is refused.
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE {operations} ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("audit_head")
    op.drop_table("audit_events")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_refuse")
