"""The log of what AWS Marketplace was told, in the database: rows are added and never change.

Whoever adds one holds the organization's row, as does whoever makes its invoices final: two processes that send at
once, or one that sends while the other closes the month, see what the other has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import sqlalchemy as sa

from billing.document import utc_text
from billing.draft import USAGE
from billing.invoices import find_invoice
from billing.marketplace.records import MOST, HourUsage, Plan, is_late, plan_hours
from billing.marketplace.terms import Subscription
from billing.marketplace.told import (
    SENDABLE,
    Event,
    Hour,
    LogRow,
    Status,
    Told,
    hours_of,
    parse_detail,
    render_detail,
)
from billing.models import marketplace_log as log
from billing.store import lock_organization
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput, NotFound
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS, Window


def load_rows(connection: sa.Connection, subscription: Subscription, window: Window) -> tuple[LogRow, ...]:
    """The rows of every hour that touches a window, by position."""
    query = sa.select(log).where(*_touching(subscription, window)).order_by(log.c.position)
    return tuple(
        LogRow(row.position, row.hour_ms, Event(row.event), row.at_ms, row.actor, **parse_detail(row.detail))
        for row in connection.execute(query)
    )


def count_rows(connection: sa.Connection, subscription: Subscription, window: Window) -> int:
    """How many those are. As rows never change, the same count means the same rows."""
    query = sa.select(sa.func.count()).select_from(log).where(*_touching(subscription, window))
    return connection.execute(query).scalar_one()


def load_told(
    connection: sa.Connection,
    subscription: Subscription,
    of: tuple[str, str],
    window: Window,
    rows: int | None = None,
) -> Told:
    """What was told of charge `of` (contract and charge) in the window of a line; as of the first `rows`."""
    return Told(subscription, *of, window, load_rows(connection, subscription, window)[:rows])


@dataclass(frozen=True, slots=True)
class MarketplaceLog:
    """Of one organization and subscription. Methods block."""

    database: Database
    clock: Clock
    organization: OrganizationId
    subscription: Subscription
    actor: str = "marketplace"

    def plan(self, usage: Sequence[HourUsage]) -> Plan:
        """Write down what is going to be sent, of hours that are new and can be. Raises Conflict, InvalidInput.

        An hour of a month whose invoice stands is late, whatever a clock says: that invoice has billed it.
        """
        lines = [piece.line for hour in usage for piece in hour.pieces]

        def write(connection: sa.Connection) -> Plan:
            self._lock(connection)
            if not lines:
                return Plan((), ())
            reach = Window(min(one.start_ms for one in lines), max(one.end_ms for one in lines))
            before = hours_of(load_rows(connection, self.subscription, reach))
            is_billed = _billed(connection)
            is_open = [not any(is_billed(one.contract, one.month) for one in hour.pieces) for hour in usage]
            left = [hour for hour, may_be_sent in zip(usage, is_open, strict=True) if may_be_sent]
            plan = plan_hours(left, before.values(), self.clock.now_ms())
            rows = (replace(self._row(one.hour_ms, Event.PLANNED), pieces=one.pieces) for one in plan.hours)
            self._append(connection, rows)
            billed = [hour for hour in usage if hour not in left and hour.hour_ms not in before]
            return replace(plan, late=(*plan.late, *billed))

        return self.database.transact(write)

    def waiting(self, reach: Window) -> list[Hour]:
        """Hours that were planned, have no certain answer and may still be sent, by time."""
        return self.database.read(lambda connection: self._waiting(connection, reach))

    def begin(self, hours: Iterable[Hour]) -> list[Hour]:
        """Write down that a call with these begins; those that can't be sent any more are left out."""
        wanted = sorted(hour.hour_ms for hour in hours)
        if not wanted:
            return []

        def write(connection: sa.Connection) -> list[Hour]:
            self._lock(connection)
            reach = Window(wanted[0], wanted[-1] + HOUR_MS)
            found = [hour for hour in self._waiting(connection, reach) if hour.hour_ms in set(wanted)]
            self._append(connection, (self._row(hour.hour_ms, Event.SENDING) for hour in found))
            return found

        return self.database.transact(write)

    def note(self, answers: Mapping[int, tuple[Event, str]]) -> None:
        """Write down what a call gave: by hour, the answer with AWS's id of the record."""

        def write(connection: sa.Connection) -> None:
            self._lock(connection)
            rows = (self._row(hour_ms, event, note) for hour_ms, (event, note) in sorted(answers.items()))
            self._append(connection, rows)

        if answers:
            self.database.transact(write)

    def resolve(self, connection: sa.Connection, hour_ms: int, taken: int, reason: str) -> Hour:
        """Write down what AWS says that it has taken of an hour, in the caller's transaction.

        Raises NotFound, Conflict: while AWS can still answer, and where it is known that nothing was taken.
        """
        self._lock(connection)
        hour = hours_of(load_rows(connection, self.subscription, Window(hour_ms, hour_ms + HOUR_MS))).get(hour_ms)
        if hour is None:
            raise NotFound(f"AWS Marketplace was told nothing of {self.subscription} in {utc_text(hour_ms)}")
        if hour.status in {Status.UNSENT, Status.NOT_SUBSCRIBED}:
            raise Conflict(f"{utc_text(hour_ms)} is {hour.status}: it is known that AWS took nothing of it")
        if hour.status is Status.UNANSWERED and not is_late(hour_ms, self.clock.now_ms()):
            raise Conflict(
                f"{utc_text(hour_ms)} may still be answered: send again, or wait until its six hours end"
            )
        if not _can_be(hour, taken):
            allowed = (
                f"0 or {hour.quantity}, whole" if hour.status is Status.UNANSWERED else f"0 to {hour.quantity}"
            )
            raise InvalidInput.single("marketplace", f"taken of {utc_text(hour_ms)}", str(taken), allowed)
        self._append(connection, [self._row(hour_ms, Event.RESOLVED, reason, taken)])
        return hour

    def _waiting(self, connection: sa.Connection, reach: Window) -> list[Hour]:
        now_ms, is_billed = self.clock.now_ms(), _billed(connection)
        found = hours_of(load_rows(connection, self.subscription, reach)).values()
        return [
            hour
            for hour in sorted(found, key=lambda one: one.hour_ms)
            if hour.status in SENDABLE
            and not is_late(hour.hour_ms, now_ms)
            and not any(is_billed(one.contract, one.month) for one in hour.pieces)
        ]

    def _lock(self, connection: sa.Connection) -> None:
        """Hold the organization's row. Raises Conflict where the subscription is another organization's."""
        lock_organization(connection, self.organization)
        query = sa.select(log.c.organization).where(*_of(self.subscription)).limit(1)
        owner = connection.execute(query).scalar()
        if owner is not None and owner != self.organization:
            message = f"{self.subscription} is what organization {owner} is billed by at AWS Marketplace"
            raise Conflict(
                f"{message}: AWS keeps one record of it for an hour, so {self.organization} can't be, too"
            )

    def _append(self, connection: sa.Connection, rows: Iterable[LogRow]) -> None:
        """Rows get their positions here; the caller holds the organization's row."""
        query = sa.select(sa.func.max(log.c.position)).where(*_of(self.subscription))
        last = connection.execute(query).scalar() or 0
        values = [
            {
                **self.subscription.model_dump(),
                "position": number,
                "organization": self.organization,
                "hour_ms": row.hour_ms,
                "event": row.event.value,
                "at_ms": row.at_ms,
                "actor": row.actor,
                "detail": render_detail(row),
            }
            for number, row in enumerate(rows, start=last + 1)
        ]
        if values:
            connection.execute(log.insert(), values)

    def _row(self, hour_ms: int, event: Event, note: str = "", taken: int | None = None) -> LogRow:
        return LogRow(0, hour_ms, event, self.clock.now_ms(), self.actor, taken=taken, note=note)


def _can_be(hour: Hour, taken: int) -> bool:
    """A record is taken whole or not at all; of one that was taken a part may be given back."""
    if hour.status is Status.UNANSWERED:
        return taken in {0, hour.quantity}
    most = hour.quantity if hour.status is Status.ACCEPTED else MOST
    return 0 <= taken <= most


def _of(subscription: Subscription) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(log.c[name] == value for name, value in subscription.model_dump().items())


def _touching(subscription: Subscription, window: Window) -> tuple[sa.ColumnElement[bool], ...]:
    hours = log.c.hour_ms > window.start_ms - HOUR_MS, log.c.hour_ms < window.end_ms
    return *_of(subscription), *hours


def _billed(connection: sa.Connection) -> Callable[[str, str], bool]:
    """Whether the monthly invoice of a contract's month stands; each looked up once."""
    return cache(lambda contract, month: find_invoice(connection, contract, USAGE, month) is not None)
