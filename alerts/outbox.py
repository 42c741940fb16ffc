"""The outbox: changes waiting for a receiver, the message that carries them, and what became of each attempt.

Every function is a transaction. A message is frozen (id and body) before it is sent and stays so over retries and
crashes; when further changes of its group come while it fails, a new message takes its place and tells all of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from alerts import models
from alerts.payload import AlertEntry, Notification, render_payload
from alerts.settings import ReceiverSettings
from alerts.states import State
from alerts.webhook import Message

OPEN, DELIVERED, SUPERSEDED, EXPIRED = "open", "delivered", "superseded", "expired"


@dataclass(frozen=True, slots=True)
class Work:
    """A message to be sent now."""

    message: Message
    receiver: str
    organization: str
    group_key: str
    failures: int  # of this group in a row
    first_failed_ms: int | None
    last_outbox_id: int


@dataclass(frozen=True, slots=True)
class _Group:
    organization: str
    group_key: str
    first_id: int
    last_id: int


def next_work(connection: sa.Connection, receiver: ReceiverSettings, external_url: str, now_ms: int) -> Work | None:
    """The message of this receiver that is due and whose changes have waited longest; None when none is due."""
    open_messages = _open_messages(connection, receiver.name)
    for group in _waiting_groups(connection, receiver.name):
        known = open_messages.get((group.organization, group.group_key))
        if known is None:
            rows = _waiting_rows(connection, receiver, group)
            return _freeze(connection, Draft(receiver, external_url, now_ms, rows))
        if known["not_before_ms"] > now_ms:
            continue
        if group.last_id > known["last_outbox_id"]:
            rows = _waiting_rows(connection, receiver, group)
            if rows[-1]["id"] > known["last_outbox_id"]:  # else it is full, and what came since follows it
                return _freeze(connection, Draft(receiver, external_url, now_ms, rows, known))
        if known["next_attempt_ms"] <= now_ms:
            return _as_work(known)
    return None


def _open_messages(connection: sa.Connection, receiver: str) -> dict[tuple[str, str], Any]:
    table = models.deliveries
    rows = connection.execute(
        sa.select(table).where(table.c.receiver == receiver, table.c.state == OPEN).with_for_update()
    ).mappings()
    return {(row["organization"], row["group_key"]): row for row in rows}


def _waiting_groups(connection: sa.Connection, receiver: str) -> list[_Group]:
    table = models.outbox
    first = sa.func.min(table.c.id)
    rows = connection.execute(
        sa.select(table.c.organization, table.c.group_key, first, sa.func.max(table.c.id))
        .where(table.c.receiver == receiver, table.c.settled_ms.is_(None))
        .group_by(table.c.organization, table.c.group_key)
        .order_by(first)
    )
    return [_Group(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be made: the changes of one group in order, at least one, and the message it replaces."""

    receiver: ReceiverSettings
    external_url: str
    now_ms: int
    rows: Sequence[Any]
    replaced: Any | None = None


def _freeze(connection: sa.Connection, draft: Draft) -> Work:
    """Store the message that tells all changes of the draft; the one it replaces is not sent again."""
    receiver, last = draft.receiver, draft.rows[-1]
    organization, group = last["organization"], last["group_key"]
    entries = merge_changes(draft.rows)
    told = {(entry.fingerprint, entry.starts_at_ms) for entry in entries}
    others = [
        entry
        for entry in _firing(connection, organization, group)
        if (entry.fingerprint, entry.starts_at_ms) not in told and receiver.wants(entry.labels)
    ]
    shown = others[: max(0, receiver.max_alerts - len(entries))]
    notification = Notification(
        receiver.name, group, [*entries, *shown], len(others) - len(shown), draft.external_url
    )
    table, replaced = models.deliveries, draft.replaced
    row = {
        "webhook_id": make_webhook_id(receiver.name, organization, group, last["id"], last["created_ms"]),
        "receiver": receiver.name,
        "organization": organization,
        "group_key": group,
        "state": OPEN,
        "alerts": len(entries),
        "body": render_payload(notification),
        "last_outbox_id": last["id"],
        "created_ms": draft.now_ms,
        "attempts": replaced["attempts"] if replaced else 0,
        "first_failed_ms": replaced["first_failed_ms"] if replaced else None,
        "next_attempt_ms": draft.now_ms,
        "not_before_ms": 0,
    }
    if replaced:
        finish(connection, replaced["webhook_id"], SUPERSEDED, draft.now_ms)
    connection.execute(sa.insert(table), row)
    return _as_work(row)


def finish(connection: sa.Connection, webhook_id: str, state: str, now_ms: int) -> None:
    """The message will not be sent again."""
    table = models.deliveries
    connection.execute(
        sa.update(table).where(table.c.webhook_id == webhook_id).values(state=state, finished_ms=now_ms)
    )


def _waiting_rows(connection: sa.Connection, receiver: ReceiverSettings, group: _Group) -> Sequence[Any]:
    table = models.outbox
    return (
        connection.execute(
            sa.select(table)
            .where(
                table.c.receiver == receiver.name,
                table.c.settled_ms.is_(None),
                table.c.organization == group.organization,
                table.c.group_key == group.group_key,
            )
            .order_by(table.c.id)
            .limit(receiver.max_alerts)
        )
        .mappings()
        .all()
    )


def merge_changes(rows: Sequence[Any]) -> list[AlertEntry]:
    """Outbox rows in order -> one entry for each life of an alert: fired and resolved is one, with both times."""
    lives = {
        (row["fingerprint"], row["starts_at_ms"]): _entry(row, row["starts_at_ms"], row["ends_at_ms"])
        for row in rows
    }
    return list(lives.values())


def _firing(connection: sa.Connection, organization: str, group: str) -> list[AlertEntry]:
    """The alerts of the group that fire now: the status of a group is the status of all of it."""
    table = models.instances
    rows = connection.execute(
        sa.select(table)
        .where(
            table.c.organization == organization,
            table.c.group_key == group,
            table.c.state == State.FIRING.value,
        )
        .order_by(table.c.fired_at_ms, table.c.fingerprint)
    ).mappings()
    return [_entry(row, row["fired_at_ms"], None) for row in rows]


def _entry(row: Any, starts_at_ms: int, ends_at_ms: int | None) -> AlertEntry:
    return AlertEntry(
        fingerprint=row["fingerprint"],
        labels=json.loads(row["labels"]),
        annotations=json.loads(row["annotations"]),
        generator_url=row["generator_url"],
        starts_at_ms=starts_at_ms,
        ends_at_ms=ends_at_ms,
    )


def _as_work(row: Any) -> Work:
    return Work(
        message=Message(row["webhook_id"], row["body"]),
        receiver=row["receiver"],
        organization=row["organization"],
        group_key=row["group_key"],
        failures=row["attempts"],
        first_failed_ms=row["first_failed_ms"],
        last_outbox_id=row["last_outbox_id"],
    )


def make_webhook_id(receiver: str, organization: str, group_key: str, last_outbox_id: int, created_ms: int) -> str:
    """The idempotency key: the same for the same changes, whoever sends them and however often."""
    text = "\0".join((receiver, organization, group_key, str(last_outbox_id), str(created_ms)))
    return f"msg_{sha256(text.encode()).hexdigest()[:32]}"
