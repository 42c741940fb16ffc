"""Tables of usage. Rows of a revision are written once and never changed (a trigger says so)."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

usage_hours = sa.Table(
    "usage_hours",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("step", sa.Text, nullable=False),  # JSON [[ms, milli-vCPU], ...] inside the hour, all clusters summed
    sa.Column("observed_ms", sa.BigInteger, nullable=False),
    sa.Column("missing_ms", sa.BigInteger, nullable=False),
    sa.Column("sources", sa.Text, nullable=False),  # JSON ["file sha256", ...]
    sa.Column("snapshot_id", sa.BigInteger, nullable=True),  # lake snapshot that was read
    sa.Column("reason", sa.String(16), nullable=False),  # watermark, deadline or late
    sa.Column("sealed_ms", sa.BigInteger, nullable=False),
)

usage_rows = sa.Table(
    "usage_rows",
    metadata,
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
    sa.Column(
        "pieces", sa.Text, nullable=True
    ),  # JSON, see `pieces`; none: one level all hour, or sealed before it
    sa.Column("places", sa.Text, nullable=True),  # where its samples stand, see `places`; none: sealed before it
)

# What the closer has seen of an hour's files: not part of a revision, only saves reading them again.
usage_checks = sa.Table(
    "usage_checks",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("files_digest", sa.String(64), nullable=False),
)

# What reading a window whose hours are all sealed gave, see `totals`: made from the rows, and again when more come.
usage_totals = sa.Table(
    "usage_totals",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("question", sa.String(200), primary_key=True),  # meter, window and how it was asked for
    sa.Column("start_ms", sa.BigInteger, nullable=False),  # of the hours that were read
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("revisions", sa.Integer, nullable=False),  # that these hours had: it holds while they have as many
    sa.Column("code", sa.Integer, nullable=False),  # version of `content`
    sa.Column("content", sa.LargeBinary, nullable=False),  # zlib of JSON
)

# How each cluster's hour compares with what the provisioner declared. Another outcome is the next position.
usage_reconciliations = sa.Table(
    "usage_reconciliations",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("project", sa.String(63), primary_key=True),
    sa.Column("cluster", sa.String(63), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1
    sa.Column("revision", sa.Integer, nullable=False),  # of the usage hour that was compared
    sa.Column("scraped_milli_vcpu_ms", sa.BigInteger, nullable=False),
    sa.Column("missing_ms", sa.BigInteger, nullable=False),
    sa.Column("least_milli_vcpu_ms", sa.BigInteger, nullable=False),
    sa.Column("most_milli_vcpu_ms", sa.BigInteger, nullable=False),
    sa.Column("difference", sa.String(16), nullable=False),  # empty: reconciled
    sa.Column("checked_ms", sa.BigInteger, nullable=False),
)
sa.Index("ix_usage_reconciliations_checked_ms", usage_reconciliations.c.checked_ms)
