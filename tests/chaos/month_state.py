"""What the programs of a month leave that lasts: every row of the database, and every file that they write."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

import alerts.models
import billing.models
import metering.meters.models
import metering.usage.models
from billing.marketplace.store import load_rows
from billing.marketplace.terms import Subscription
from billing.marketplace.told import hours_of
from kernel.audit import audit_events, audit_head
from kernel.database import Database, metadata, sqlite_url
from kernel.window import Window
from tests.chaos.month import Place

_WITH_TABLES = (alerts.models, billing.models, metering.meters.models, metering.usage.models)
SHOWN = 400  # rows up to which a table is kept as it is, to be shown where it differs; else a hash
# PostgreSQL gives a number of an identity away also to a transaction that is rolled back.
_COUNTED = {("billing_outbox", "position")}
SUBSCRIPTION = Subscription(product="prod-1", account="123456789012", dimension="searches")  # of beta
_TIMES = {"at_ms", "sent_ms", "claimed_until_ms"}


def state_of(place: Place, *, is_timeless: bool = False) -> dict[str, object]:
    """By table its rows, by file its bytes.

    `is_timeless`: without the moments at which documents were handed over, which are later after a death, and so
    without the hashes of the audit chain; what was done to which document, and in which order, stays. Of the log of
    AWS Marketplace it has where each hour stands: a call whose answer nobody heard has a row of its own.
    """
    database = Database(place.database_url or sqlite_url(place.folder / "vendor" / "byoc.sqlite"))
    try:
        return database.read(lambda connection: _rows(connection, is_timeless=is_timeless)) | _files(place.out)
    finally:
        database.close()


def _rows(connection: sa.Connection, *, is_timeless: bool) -> dict[str, object]:
    found: dict[str, object] = {}
    for table in sorted(metadata.tables.values(), key=lambda one: one.name):
        if is_timeless and table is audit_head:
            continue
        if is_timeless and table is billing.models.marketplace_log:
            hours = hours_of(load_rows(connection, SUBSCRIPTION, Window(0, 2**62))).values()
            found[table.name] = [(hour.hour_ms, hour.quantity, hour.status, hour.taken) for hour in hours]
            continue
        columns = [one for one in table.columns if (table.name, one.name) not in _COUNTED]
        if is_timeless:
            columns = [one for one in columns if one.name not in _TIMES]
        if is_timeless and table is audit_events:
            columns = [one for one in columns if "hash" not in one.name]
        query = sa.select(*columns).order_by(*table.primary_key.columns)
        rows = [tuple(row) for row in connection.execute(query)]
        found[table.name] = rows if len(rows) <= SHOWN else sha256(repr(rows).encode()).hexdigest()
    return found


def _files(folder: Path) -> dict[str, object]:
    """A summary counts the revisions that its own run sealed; after a death some were sealed before."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        if path.is_file():
            content = path.read_bytes()
            if path.name == "summary.json":
                content = b"\n".join(line for line in content.split(b"\n") if b"hour_revisions" not in line)
            name = f"file {path.relative_to(folder)}"
            found[name] = content if len(content) < SHOWN else sha256(content).hexdigest()
    return found
