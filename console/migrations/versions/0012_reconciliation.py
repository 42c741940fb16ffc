"""What the provisioner declared and when, and how scraped usage compares with it."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"
branch_labels = None
depends_on = None

_SEALED = {
    "provisioner_transitions": ("cluster", "position"),
    "usage_reconciliations": ("organization", "hour_ms", "project", "cluster", "position"),
}
_LICENSED = ("query", "milvus", "index")


def upgrade() -> None:
    """Create them; what was written down can't be changed. Existing clusters are known from their last change."""
    transitions = op.create_table(
        "provisioner_transitions",
        sa.Column("cluster", sa.String(63), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("least_milli_vcpu", sa.BigInteger, nullable=False),
        sa.Column("most_milli_vcpu", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(("cluster",), ("provisioner_clusters.id",)),
    )
    op.create_table(
        "usage_reconciliations",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("hour_ms", sa.BigInteger, primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("cluster", sa.String(63), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("scraped_milli_vcpu_ms", sa.BigInteger, nullable=False),
        sa.Column("missing_ms", sa.BigInteger, nullable=False),
        sa.Column("least_milli_vcpu_ms", sa.BigInteger, nullable=False),
        sa.Column("most_milli_vcpu_ms", sa.BigInteger, nullable=False),
        sa.Column("difference", sa.String(16), nullable=False),
        sa.Column("checked_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_usage_reconciliations_checked_ms", "usage_reconciliations", ["checked_ms"])
    known = [_known(row) for row in op.get_bind().execute(sa.text("SELECT * FROM provisioner_clusters"))]
    if known:
        op.bulk_insert(transitions, known)
    for table in _SEALED:
        _seal(table)


def _known(row: sa.Row[tuple[object, ...]]) -> dict[str, object]:
    """Where an existing cluster stands: while an operation runs, anything up to what is desired."""
    observed, desired = _licensed(row.observed_spec), _licensed(row.desired_spec)
    is_moving = row.job is not None
    return {
        "cluster": row.id,
        "position": 1,
        "state": row.state,
        "least_milli_vcpu": 0 if is_moving else observed,
        "most_milli_vcpu": max(observed, desired) if is_moving else observed,
        "at_ms": row.changed_ms,
    }


def _licensed(spec: str | None) -> int:
    return sum(json.loads(spec)["allocation"][name] for name in _LICENSED) if spec else 0


def downgrade() -> None:
    """Drop them."""
    for table in _SEALED:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        for table in _SEALED:
            op.execute(f"DROP FUNCTION refuse_change_of_{table}()")


def _seal(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table}: what was written down does not change'); END"
            )
        # INSERT OR REPLACE deletes without firing the trigger above.
        same = " AND ".join(f"{name} = NEW.{name}" for name in _SEALED[table])
        sealed = f"SELECT 1 FROM {table} WHERE {same}"  # noqa: S608 - names of this file
        op.execute(
            f"CREATE TRIGGER {table}_refuse_replace BEFORE INSERT ON {table} WHEN EXISTS ({sealed}) "
            f"BEGIN SELECT RAISE(ABORT, '{table}: what was written down does not change'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION refuse_change_of_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE EXCEPTION '{table}: what was written down does not change'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION refuse_change_of_{table}()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_{table}()"
    )
