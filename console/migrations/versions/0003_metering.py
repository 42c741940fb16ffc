"""Tables of metering."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None

_SEALED = {
    "usage_hours": ("organization", "hour_ms", "revision"),
    "usage_rows": ("organization", "hour_ms", "revision", "project", "cluster", "component"),
}


def upgrade() -> None:
    """Create the tables of metering; sealed revisions can't be changed, by whatever program."""
    op.create_table(
        "usage_hours",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("observed_ms", sa.BigInteger, nullable=False),
        sa.Column("missing_ms", sa.BigInteger, nullable=False),
        sa.Column("sources", sa.Text, nullable=False),
        sa.Column("snapshot_id", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("sealed_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "usage_rows",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("cluster", sa.String(63), primary_key=True),
        sa.Column("component", sa.String(32), primary_key=True),
        sa.Column("collector", sa.String(63), nullable=True),
        sa.Column("milli_vcpu_ms", sa.BigInteger, nullable=False),
        sa.Column("observed_ms", sa.BigInteger, nullable=False),
        sa.Column("missing_ms", sa.BigInteger, nullable=False),
        sa.Column("peak_milli_vcpu", sa.BigInteger, nullable=False),
        sa.Column("open_at_end", sa.Boolean, nullable=False),
    )
    op.create_table(
        "usage_checks",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("files_digest", sa.String(64), nullable=False),
    )
    for table in _SEALED:
        _seal(table)


def downgrade() -> None:
    """Drop them."""
    for table in ("usage_checks", "usage_rows", "usage_hours"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in _SEALED:
            op.execute(f"DROP FUNCTION refuse_change_of_{table}()")


def _seal(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table}: a sealed revision does not change'); END"
            )
        # INSERT OR REPLACE deletes without firing the trigger above.
        same = " AND ".join(f"{name} = NEW.{name}" for name in _SEALED[table])
        sealed = f"SELECT 1 FROM {table} WHERE {same}"  # noqa: S608 - names of this file
        op.execute(
            f"CREATE TRIGGER {table}_refuse_replace BEFORE INSERT ON {table} WHEN EXISTS ({sealed}) "
            f"BEGIN SELECT RAISE(ABORT, '{table}: a sealed revision does not change'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION refuse_change_of_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE EXCEPTION '{table}: a sealed revision does not change'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION refuse_change_of_{table}()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_{table}()"
    )
