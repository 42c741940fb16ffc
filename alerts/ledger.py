"""What became of an attempt, in one transaction: the log of it, the message, the receiver, the fallback."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from alerts import models
from alerts.outbox import DELIVERED, EXPIRED, Work, finish
from alerts.retries import Attempt, Outcome, delay_ms
from alerts.settings import AlertSettings, ReceiverSettings
from kernel.crashpoints import crash_point
from kernel.database import upsert


@dataclass(frozen=True, slots=True)
class ReceiverState:
    """How a receiver does. Times are ms by the clock."""

    name: str
    failures: int = 0
    open_until_ms: int | None = None
    disabled_ms: int | None = None
    last_success_ms: int | None = None
    last_error: str | None = None

    def may_try(self, now_ms: int) -> bool:
        """False while the breaker is open or the receiver is disabled."""
        return self.disabled_ms is None and (self.open_until_ms is None or self.open_until_ms <= now_ms)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an attempt changed beside its message."""

    escalated: int = 0
    expired: int = 0


def load_receiver(connection: sa.Connection, name: str) -> ReceiverState:
    """The state of a receiver; a new one is healthy."""
    table = models.receivers
    row = connection.execute(sa.select(table).where(table.c.name == name)).mappings().one_or_none()
    return ReceiverState(**row) if row else ReceiverState(name)


def enable_receiver(connection: sa.Connection, name: str) -> bool:
    """Let a disabled receiver be tried again; False when it was not disabled."""
    table = models.receivers
    result = connection.execute(
        sa.update(table)
        .where(table.c.name == name, table.c.disabled_ms.is_not(None))
        .values(disabled_ms=None, failures=0, open_until_ms=None)
    )
    return result.rowcount == 1


def record_attempt(
    connection: sa.Connection, receiver: ReceiverSettings, settings: AlertSettings, work: Work, attempt: Attempt
) -> Recorded:
    """Store the attempt. Its 2xx, once read, settles the changes; a failure sets the next try."""
    crash_point("alerts.posted")
    now_ms = attempt.started_ms + attempt.duration_ms
    _log(connection, work, attempt)
    _record_receiver(connection, settings, work.receiver, attempt, now_ms)
    if attempt.outcome is Outcome.DELIVERED:
        settle(connection, work, work.message.webhook_id, now_ms)
        finish(connection, work.message.webhook_id, DELIVERED, now_ms)
        return Recorded()
    first_failed_ms = work.first_failed_ms if work.first_failed_ms is not None else attempt.started_ms
    if now_ms - first_failed_ms >= settings.give_up_hours * 3_600_000:
        settle(connection, work, EXPIRED, now_ms)
        finish(connection, work.message.webhook_id, EXPIRED, now_ms)
        return Recorded(expired=1)
    failures = work.failures + 1
    wait_ms = max(delay_ms(failures), attempt.retry_after_ms or 0)
    table = models.deliveries
    connection.execute(
        sa.update(table)
        .where(table.c.webhook_id == work.message.webhook_id)
        .values(
            attempts=failures,
            first_failed_ms=first_failed_ms,
            next_attempt_ms=now_ms + wait_ms,
            not_before_ms=now_ms + attempt.retry_after_ms if attempt.retry_after_ms else 0,
        )
    )
    late = now_ms - first_failed_ms >= receiver.fallback_after_seconds * 1000
    if late or failures >= receiver.fallback_after_attempts or attempt.outcome is Outcome.GONE:
        return Recorded(escalated=escalate(connection, receiver, now_ms, work))
    return Recorded()


def settle(connection: sa.Connection, work: Work, how: str, now_ms: int) -> None:
    """The changes that the message tells wait no longer."""
    table = models.outbox
    connection.execute(
        sa.update(table)
        .where(
            table.c.receiver == work.receiver,
            table.c.organization == work.organization,
            table.c.group_key == work.group_key,
            table.c.settled_ms.is_(None),
            table.c.id <= work.last_outbox_id,
        )
        .values(settled_ms=now_ms, settled_by=how)
    )


def escalate(connection: sa.Connection, receiver: ReceiverSettings, now_ms: int, work: Work | None = None) -> int:
    """Copy waiting changes, each once, to the fallback's queue; of one group, or of all without `work`."""
    if receiver.fallback is None:
        return 0
    table = models.outbox
    waiting = [table.c.receiver == receiver.name, table.c.settled_ms.is_(None), table.c.escalated_ms.is_(None)]
    if work is not None:
        waiting += [table.c.organization == work.organization, table.c.group_key == work.group_key]
    rows = connection.execute(sa.select(table).where(*waiting).order_by(table.c.id)).mappings().all()
    if not rows:
        return 0
    own = {"id", "settled_ms", "settled_by", "escalated_ms"}
    copies = [
        {name: value for name, value in row.items() if name not in own}
        | {"receiver": receiver.fallback, "created_ms": now_ms}
        for row in rows
    ]
    connection.execute(sa.insert(table), copies)
    last = rows[-1]["id"]
    connection.execute(sa.update(table).where(*waiting, table.c.id <= last).values(escalated_ms=now_ms))
    return len(copies)


def _log(connection: sa.Connection, work: Work, attempt: Attempt) -> None:
    connection.execute(
        sa.insert(models.attempts),
        {
            "webhook_id": work.message.webhook_id,
            "receiver": work.receiver,
            "organization": work.organization,
            "started_ms": attempt.started_ms,
            "duration_ms": attempt.duration_ms,
            "outcome": attempt.outcome.value,
            "status": attempt.status,
            "detail": attempt.detail,
        },
    )


def _record_receiver(
    connection: sa.Connection, settings: AlertSettings, name: str, attempt: Attempt, now_ms: int
) -> None:
    known = load_receiver(connection, name)
    alive = attempt.outcome in {Outcome.DELIVERED, Outcome.REJECTED}  # it answered: only this message failed
    failures = 0 if alive else known.failures + 1
    open_until_ms = (
        now_ms + round(settings.breaker_seconds * 1000) if failures >= settings.breaker_failures else None
    )
    delivered = attempt.outcome is Outcome.DELIVERED
    row = {
        "name": name,
        "failures": failures,
        "open_until_ms": open_until_ms,
        "disabled_ms": now_ms if attempt.outcome is Outcome.GONE else known.disabled_ms,
        "last_success_ms": now_ms if delivered else known.last_success_ms,
        "last_error": None if delivered else f"{attempt.outcome} {attempt.status or ''} {attempt.detail}"[:300],
    }
    upsert(connection, models.receivers, [row])
