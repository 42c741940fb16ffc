"""Tables of the catalogue's meters. A revision is written once and never changed (a trigger says so)."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

meter_catalogues = sa.Table(
    "meter_catalogues",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),  # "id version"
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON
    sa.Column("added_ms", sa.BigInteger, nullable=False),
)

meter_hours = sa.Table(
    "meter_hours",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("meter", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("catalogue", sa.String(80), nullable=False),
    sa.Column("code", sa.Integer, nullable=False),  # version of the arithmetic
    sa.Column("sources", sa.Text, nullable=False),  # JSON ["file sha256", ...]
    sa.Column("snapshot_id", sa.BigInteger, nullable=True),
    sa.Column("reason", sa.String(16), nullable=False),  # watermark, deadline or late
    sa.Column("sealed_ms", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),  # zlib of JSON: what the next hour needs of each series
)

meter_rows = sa.Table(
    "meter_rows",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("meter", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(63), nullable=False),
    sa.Column("cluster", sa.String(63), nullable=False),
    sa.Column("dimensions", sa.Text, nullable=False),  # JSON [[label, value], ...]
    sa.Column("observed_ms", sa.BigInteger, nullable=False),
    sa.Column("missing_ms", sa.BigInteger, nullable=False),
    sa.Column("figures", sa.Text, nullable=False),  # JSON: integers by quarter, levels, values; see `store`
    sa.Column("places", sa.Text, nullable=True),  # where its samples stand, see `places`; none: sealed before it
)

# What the closer has seen of an hour's files: not part of a revision, only saves reading them again.
meter_checks = sa.Table(
    "meter_checks",
    metadata,
    sa.Column("organization", sa.String(63), primary_key=True),
    sa.Column("hour_ms", sa.BigInteger, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
)
