"""Tables of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels = None
depends_on = None

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables of alerts."""
    _create_state()
    _create_delivery()


def _create_state() -> None:
    op.create_table(
        "alert_progress",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("rule_group", sa.String(255), primary_key=True),
        sa.Column("evaluated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.Text, nullable=False),
    )
    op.create_table(
        "alert_instances",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("rule_group", sa.String(255), primary_key=True),
        sa.Column("rule", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("annotations", sa.Text, nullable=False),
        sa.Column("value", sa.String(40), nullable=False),
        sa.Column("group_key", sa.String(600), nullable=False),
        sa.Column("generator_url", sa.Text, nullable=False),
        sa.Column("active_at_ms", sa.BigInteger, nullable=False),
        sa.Column("fired_at_ms", sa.BigInteger),
        sa.Column("kept_at_ms", sa.BigInteger),
        sa.Column("resolved_at_ms", sa.BigInteger),
    )
    op.create_index("ix_alert_instances_state", "alert_instances", ["state"])
    op.create_table(
        "alert_collectors",
        sa.Column("organization", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("collector", sa.String(63), primary_key=True),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
        sa.Column("complete_through_ms", sa.BigInteger),
        sa.Column("forgotten_ms", sa.BigInteger),
    )


def _create_delivery() -> None:
    op.create_table(
        "alert_outbox",
        sa.Column("id", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("receiver", sa.String(63), nullable=False),
        sa.Column("organization", sa.String(63), nullable=False),
        sa.Column("group_key", sa.String(600), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("fingerprint", sa.String(16), nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("annotations", sa.Text, nullable=False),
        sa.Column("generator_url", sa.Text, nullable=False),
        sa.Column("starts_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_ms", sa.BigInteger),
        sa.Column("settled_by", sa.String(64)),
        sa.Column("escalated_ms", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_alert_outbox_queue", "alert_outbox", ["receiver", "settled_ms", "organization", "group_key", "id"]
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("webhook_id", sa.String(64), primary_key=True),
        sa.Column("receiver", sa.String(63), nullable=False),
        sa.Column("organization", sa.String(63), nullable=False),
        sa.Column("group_key", sa.String(600), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("alerts", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("last_outbox_id", sa.BigInteger, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_failed_ms", sa.BigInteger),
        sa.Column("next_attempt_ms", sa.BigInteger, nullable=False),
        sa.Column("not_before_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
    )
    op.create_index("ix_alert_deliveries_queue", "alert_deliveries", ["receiver", "state"])
    op.create_table(
        "alert_attempts",
        sa.Column("id", _Sequence, primary_key=True, autoincrement=True),
        sa.Column("webhook_id", sa.String(64), nullable=False),
        sa.Column("receiver", sa.String(63), nullable=False),
        sa.Column("organization", sa.String(63), nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("detail", sa.String(300), nullable=False),
    )
    op.create_index("ix_alert_attempts_webhook_id", "alert_attempts", ["webhook_id"])
    op.create_index("ix_alert_attempts_started_ms", "alert_attempts", ["started_ms"])
    op.create_table(
        "alert_receivers",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("open_until_ms", sa.BigInteger),
        sa.Column("disabled_ms", sa.BigInteger),
        sa.Column("last_success_ms", sa.BigInteger),
        sa.Column("last_error", sa.String(300)),
    )


def downgrade() -> None:
    """Drop them."""
    for table in (
        "alert_receivers",
        "alert_attempts",
        "alert_deliveries",
        "alert_outbox",
        "alert_collectors",
        "alert_instances",
        "alert_progress",
    ):
        op.drop_table(table)
