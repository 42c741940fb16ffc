"""Tables of billing. Everything but the counters, reservations and the outbox is append-only, by trigger."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

price_books = sa.Table(
    "billing_price_books",
    metadata,
    sa.Column("book", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
    sa.Column("content", sa.Text),  # the snapshot as JSON: what YAML means by it, read a tenth as slowly
)

contracts = sa.Table(
    "billing_contracts",
    metadata,
    sa.Column("contract", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False, index=True),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
    sa.Column("content", sa.Text),  # the snapshot as JSON: what YAML means by it, read a tenth as slowly
)

licences = sa.Table(
    "billing_licences",
    metadata,
    sa.Column("licence", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False, index=True),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("added_ms", sa.BigInteger, nullable=False),
    sa.Column("content", sa.Text),  # the snapshot as JSON: what YAML means by it, read a tenth as slowly
)

# One row for each organization: what reservations and changes of its contracts and licences lock.
accounts = sa.Table(
    "billing_accounts",
    metadata,
    sa.Column("organization", sa.Text, primary_key=True),
)

reservations = sa.Table(
    "billing_reservations",
    metadata,
    sa.Column("organization", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("milli_vcpu", sa.BigInteger, nullable=False),
    sa.Column("job", sa.Text, nullable=False),
    sa.Column("reserved_ms", sa.BigInteger, nullable=False),
)

# The locked row that makes numbers gapless: taken and counted in the transaction of the document.
counters = sa.Table(
    "billing_counters",
    metadata,
    sa.Column("legal_entity", sa.Text, primary_key=True),
    sa.Column("year", sa.Integer, primary_key=True),
    sa.Column("last_sequence", sa.Integer, nullable=False),
    sa.Column("last_issued_ms", sa.BigInteger, nullable=False),
)

invoices = sa.Table(
    "billing_invoices",
    metadata,
    sa.Column("number", sa.Text, primary_key=True),
    sa.Column("legal_entity", sa.Text, nullable=False),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("organization", sa.Text, nullable=False, index=True),
    sa.Column("contract", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("period", sa.Text, nullable=False),  # YYYY-MM, or the first day of a commitment
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("gross", sa.Text, nullable=False),  # decimal string in major units
    sa.Column("issued_ms", sa.BigInteger, nullable=False),
    sa.Column("content_sha256", sa.Text, nullable=False),  # of the draft it was made from
    sa.Column("sha256", sa.Text, nullable=False),  # of `document`
    sa.Column("document", sa.Text, nullable=False),  # canonical JSON (RFC 8785)
    sa.UniqueConstraint("legal_entity", "year", "sequence", name="uq_billing_invoices_sequence"),
    sa.UniqueConstraint("contract", "kind", "period", name="uq_billing_invoices_period"),
)

postings = sa.Table(
    "billing_postings",
    metadata,
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("minor_units", sa.BigInteger, nullable=False),  # debit positive, credit negative
    sa.Column("booked_ms", sa.BigInteger, nullable=False),
)

outbox = sa.Table(
    "billing_outbox",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("sent_ms", sa.BigInteger),
    sa.Column("claimed_until_ms", sa.BigInteger),  # by the process that hands it over; null or past: by none
)

# What happened to an issued document, in order; its state follows from these rows.
events = sa.Table(
    "billing_events",
    metadata,
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("minor_units", sa.BigInteger),  # what was paid
    sa.Column("reference", sa.Text, nullable=False),
)

# Entries that follow the one of the document itself: payments, settlements, reversals.
entries = sa.Table(
    "billing_entries",
    metadata,
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), primary_key=True),
    sa.Column("event", sa.Integer, primary_key=True),  # position in billing_events; 0 with the document itself
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("minor_units", sa.BigInteger, nullable=False),  # debit positive, credit negative
    sa.Column("booked_ms", sa.BigInteger, nullable=False),
)

approvals = sa.Table(
    "billing_approvals",
    metadata,
    sa.Column("content_sha256", sa.Text, primary_key=True),  # of the draft
    sa.Column("contract", sa.Text, nullable=False),
    sa.Column("period", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("approved_ms", sa.BigInteger, nullable=False),
)

# Prepaid credits: what was bought, and what documents drew from it (negative when given back by a void).
grants = sa.Table(
    "billing_grants",
    metadata,
    sa.Column("grant_id", sa.Text, primary_key=True),
    sa.Column("organization", sa.Text, nullable=False, index=True),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("minor_units", sa.BigInteger, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("granted_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
)

draws = sa.Table(
    "billing_draws",
    metadata,
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), primary_key=True),
    sa.Column("event", sa.Integer, primary_key=True),  # 0 with the document, else the position of the void
    sa.Column("grant_id", sa.Text, sa.ForeignKey("billing_grants.grant_id"), primary_key=True),
    sa.Column("minor_units", sa.BigInteger, nullable=False),
)

# The vendor's signature over each document, made in the transaction of its number.
signatures = sa.Table(
    "billing_signatures",
    metadata,
    sa.Column("number", sa.Text, sa.ForeignKey("billing_invoices.number"), primary_key=True),
    sa.Column("legal_entity", sa.Text, nullable=False, index=True),
    sa.Column("signed", sa.Text, nullable=False),  # `signature.json` of a bundle
)

# Signed roots of the tree over a legal entity's signatures, each naming the one before.
checkpoints = sa.Table(
    "billing_checkpoints",
    metadata,
    sa.Column("legal_entity", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1
    sa.Column("month", sa.Text, nullable=False),  # YYYY-MM that was closed
    sa.Column("size", sa.Integer, nullable=False),  # leaves of the tree
    sa.Column("signed", sa.Text, nullable=False),  # canonical JSON
    sa.Column("made_ms", sa.BigInteger, nullable=False),
)

checkpoint_leaves = sa.Table(
    "billing_checkpoint_leaves",
    metadata,
    sa.Column("legal_entity", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # index in the tree, from 0
    sa.Column("number", sa.Text, sa.ForeignKey("billing_signatures.number"), nullable=False, unique=True),
    sa.Column("leaf", sa.String(64), nullable=False),  # hash of the signed statement, in hex
)

# What AWS Marketplace was told and what it answered: `billing.marketplace.told` says what the rows mean.
marketplace_log = sa.Table(
    "billing_marketplace_log",
    metadata,
    sa.Column("product", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("dimension", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1, without a gap
    sa.Column("organization", sa.Text, nullable=False),
    sa.Column("hour_ms", sa.BigInteger, nullable=False),  # the record's hour, its start
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # canonical JSON
    sa.Index("ix_billing_marketplace_log_hour", "product", "account", "dimension", "hour_ms"),
)
