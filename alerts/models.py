"""Tables of alerts. Times are ms UTC: `*_at_ms` in event time (the evaluation), others by the clock."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")

progress = sa.Table(
    "alert_progress",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("rule_group", sa.String(255), primary_key=True),
    sa.Column("evaluated_at_ms", sa.BigInteger, nullable=False),
    sa.Column("errors", sa.Text, nullable=False),  # JSON: rule key -> message of the last evaluation
)

instances = sa.Table(
    "alert_instances",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("rule_group", sa.String(255), primary_key=True),
    sa.Column("rule", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(16), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),  # JSON object
    sa.Column("annotations", sa.Text, nullable=False),  # JSON object, as of the last change of state
    sa.Column("value", sa.String(40), nullable=False),  # at the last change of state
    sa.Column("group_key", sa.String(600), nullable=False),
    sa.Column("generator_url", sa.Text, nullable=False),
    sa.Column("active_at_ms", sa.BigInteger, nullable=False),  # the condition has held since
    sa.Column("fired_at_ms", sa.BigInteger),
    sa.Column("kept_at_ms", sa.BigInteger),  # firing, though the condition has not held since
    sa.Column("resolved_at_ms", sa.BigInteger),
    sa.Index("ix_alert_instances_state", "state"),
)

outbox = sa.Table(
    "alert_outbox",
    metadata,
    sa.Column("id", _Sequence, primary_key=True, autoincrement=True),
    sa.Column("receiver", sa.String(63), nullable=False),
    sa.Column("organization", sa.String(63), nullable=False),
    sa.Column("group_key", sa.String(600), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # firing or resolved
    sa.Column("fingerprint", sa.String(16), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("annotations", sa.Text, nullable=False),
    sa.Column("generator_url", sa.Text, nullable=False),
    sa.Column("starts_at_ms", sa.BigInteger, nullable=False),
    sa.Column("ends_at_ms", sa.BigInteger),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("settled_ms", sa.BigInteger),
    sa.Column("settled_by", sa.String(64)),  # the webhook-id that carried it, or why it was given up
    sa.Column("escalated_ms", sa.BigInteger),  # copied to the queue of the fallback receiver
    sa.Index("ix_alert_outbox_queue", "receiver", "settled_ms", "organization", "group_key", "id"),
    sqlite_autoincrement=True,
)

deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    sa.Column("webhook_id", sa.String(64), primary_key=True),
    sa.Column("receiver", sa.String(63), nullable=False),
    sa.Column("organization", sa.String(63), nullable=False),
    sa.Column("group_key", sa.String(600), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # open, delivered, superseded, expired
    sa.Column("alerts", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("last_outbox_id", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),  # failed ones of the group since its last success
    sa.Column("first_failed_ms", sa.BigInteger),
    sa.Column("next_attempt_ms", sa.BigInteger, nullable=False),
    sa.Column("not_before_ms", sa.BigInteger, nullable=False),  # Retry-After
    sa.Column("finished_ms", sa.BigInteger),
    sa.Index("ix_alert_deliveries_queue", "receiver", "state"),
)

attempts = sa.Table(
    "alert_attempts",
    metadata,
    sa.Column("id", _Sequence, primary_key=True, autoincrement=True),
    sa.Column("webhook_id", sa.String(64), nullable=False),
    sa.Column("receiver", sa.String(63), nullable=False),
    sa.Column("organization", sa.String(63), nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("status", sa.Integer),  # of the HTTP answer, if there was one
    sa.Column("detail", sa.String(300), nullable=False),
    sa.Index("ix_alert_attempts_webhook_id", "webhook_id"),
    sa.Index("ix_alert_attempts_started_ms", "started_ms"),
)

receivers = sa.Table(
    "alert_receivers",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row, over all groups
    sa.Column("open_until_ms", sa.BigInteger),  # the breaker lets no attempt through before
    sa.Column("disabled_ms", sa.BigInteger),  # it answered 410 Gone
    sa.Column("last_success_ms", sa.BigInteger),
    sa.Column("last_error", sa.String(300)),
)

collectors = sa.Table(
    "alert_collectors",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("project", sa.String(63), primary_key=True),
    sa.Column("collector", sa.String(63), primary_key=True),
    sa.Column("received_ms", sa.BigInteger, nullable=False),
    sa.Column("complete_through_ms", sa.BigInteger),
    sa.Column("forgotten_ms", sa.BigInteger),
)
