"""Tables of the catalogue's meters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None

_SEALED = {
    "meter_catalogues": ("name",),
    "meter_hours": ("organization", "meter", "hour_ms", "revision"),
    "meter_rows": ("organization", "meter", "hour_ms", "revision", "number"),
}


def upgrade() -> None:
    """Create them; sealed revisions can't be changed, by whatever program."""
    op.create_table(
        "meter_catalogues",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("added_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "meter_hours",
        *_key(),
        sa.Column("catalogue", sa.String(80), nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("sources", sa.Text, nullable=False),
        sa.Column("snapshot_id", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("sealed_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "meter_rows",
        *_key(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("cluster", sa.String(63), nullable=False),
        sa.Column("dimensions", sa.Text, nullable=False),
        sa.Column("observed_ms", sa.BigInteger, nullable=False),
        sa.Column("missing_ms", sa.BigInteger, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
    )
    op.create_table(
        "meter_checks",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    for table in _SEALED:
        _seal(table)


def _key() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("meter", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("meter_checks", "meter_rows", "meter_hours", "meter_catalogues"):
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
