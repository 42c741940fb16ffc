"""What leaves the tables, and how full they are."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from alerts import models
from alerts.metrics import AlertMetrics
from alerts.outbox import OPEN, SUPERSEDED
from alerts.settings import ReceiverSettings
from alerts.states import State

REMOVED = "receiver_removed"


def settle_removed_receivers(connection: sa.Connection, receivers: Iterable[ReceiverSettings], now_ms: int) -> int:
    """Changes for receivers that are no longer in the settings wait for nobody; returns how many."""
    names = [receiver.name for receiver in receivers]
    outbox, deliveries = models.outbox, models.deliveries
    result = connection.execute(
        sa.update(outbox)
        .where(outbox.c.settled_ms.is_(None), outbox.c.receiver.not_in(names))
        .values(settled_ms=now_ms, settled_by=REMOVED)
    )
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.state == OPEN, deliveries.c.receiver.not_in(names))
        .values(state=SUPERSEDED, finished_ms=now_ms)
    )
    return result.rowcount


def sweep(connection: sa.Connection, before_ms: int) -> None:
    """Drop resolved alerts, settled changes, finished messages and attempts older than that."""
    instances, outbox = models.instances, models.outbox
    connection.execute(
        sa.delete(instances).where(
            instances.c.state == State.RESOLVED.value, instances.c.resolved_at_ms < before_ms
        )
    )
    connection.execute(sa.delete(outbox).where(outbox.c.settled_ms < before_ms))
    connection.execute(sa.delete(models.deliveries).where(models.deliveries.c.finished_ms < before_ms))
    connection.execute(sa.delete(models.attempts).where(models.attempts.c.started_ms < before_ms))


def measure(connection: sa.Connection, metrics: AlertMetrics, now_ms: int) -> None:
    """Set the gauges of alerts and of the outbox."""
    instances, outbox = models.instances, models.outbox
    rows = connection.execute(sa.select(instances.c.state, sa.func.count()).group_by(instances.c.state)).all()
    counts = {str(state): int(count) for state, count in rows}
    for state in (State.PENDING, State.FIRING):
        metrics.alerts.labels(state.value).set(counts.get(state.value, 0))
    waiting = connection.execute(
        sa.select(outbox.c.receiver, sa.func.count(), sa.func.min(outbox.c.created_ms))
        .where(outbox.c.settled_ms.is_(None))
        .group_by(outbox.c.receiver)
    ).all()
    metrics.outbox_waiting.clear()
    metrics.outbox_oldest_seconds.clear()
    for receiver, count, oldest in waiting:
        metrics.outbox_waiting.labels(receiver).set(count)
        metrics.outbox_oldest_seconds.labels(receiver).set(max(0, now_ms - oldest) / 1000)
