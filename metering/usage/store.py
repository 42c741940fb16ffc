"""Sealed hours in the database: written once per revision, read as hours and as months."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256

import sqlalchemy as sa

from kernel.database import Database
from kernel.errors import NotFound, Retry, truncate
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window, whole_hours
from metering.meters.models import meter_checks, meter_hours
from metering.meters.reading import meter_and_revisions, read_definitions, read_meter, sealing_moments
from metering.usage.meter import Component
from metering.usage.model import NOT_BILLED, GapRule, MeterRequest, MeterUsage, UsageMonth
from metering.usage.models import usage_checks, usage_hours, usage_rows
from metering.usage.month import month_and_revisions, newest_revisions, read_month
from metering.usage.rows import UsageRows
from metering.usage.sealing import HourToSeal, seal_hours
from metering.usage.totals import ReadMeter, find_meters, find_month, keep_meters, keep_month

MOST_MOMENTS = 100  # of sealing, that `month_of` looks back over


class HoursMoved(Retry):
    """Another closer has sealed one of these hours since they were looked at. Look again."""


class UsageStore:
    """Hours and their revisions. Every method blocks; call from a worker thread.

    `keeping`: what is read of windows whose hours are all sealed is kept, so that it is read once; see `totals`.
    """

    def __init__(self, database: Database, *, keeping: bool = False) -> None:
        self._database = database
        self._is_keeping = keeping

    def seal(self, hours: Sequence[HourToSeal], sealed_ms: int, expected: Mapping[int, str] | None = None) -> int:
        """Store each hour as its next revision, all in one transaction; returns how many were written.

        `hours` are of one organization, in order of time. An hour that gives the same figures as its newest
        revision is not written again: replaying changes nothing. `expected` is what `checked` said before the files
        were listed: when it no longer holds, what was computed may be older than what is sealed. Raises HoursMoved.
        """

        def write(connection: sa.Connection) -> int:
            if hours:
                self._take_turn(connection, hours[0].organization)
            if hours and expected is not None:
                _check_unmoved(connection, hours, expected)
            return seal_hours(connection, hours, sealed_ms)

        return self._database.transact(write)

    def _take_turn(self, connection: sa.Connection, organization: OrganizationId) -> None:
        """One closer of an organization at a time, until the transaction ends. SQLite has one writer anyway."""
        if not self._database.is_sqlite:
            key = int.from_bytes(sha256(f"usage/{organization}".encode()).digest()[:8], "big", signed=True)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        """The newest revision of every hour of `window`, which is cut at quarters of hours. Raises InvalidInput."""
        rows, hours = partial(self._rows_of, organization, window), whole_hours(window)

        def read(connection: sa.Connection) -> tuple[UsageMonth, int | None]:
            kept = find_month(connection, organization, window, rows)
            return (kept, None) if kept else month_and_revisions(connection, organization, window)

        found, revisions = self._database.read(read)
        if self._is_keeping and found.sealed and revisions is not None:
            self._database.transact(partial(keep_month, usage=found, hours=hours, revisions=revisions))
        return found

    def _rows_of(self, organization: OrganizationId, window: Window, digest: str) -> UsageRows:
        """The rows of what was kept. Raises HoursMoved: an hour was sealed again since."""
        found = self._database.read(lambda connection: read_month(connection, organization, window))
        if found.revision_digest != digest:
            raise HoursMoved(f"{organization}: an hour of {window} was sealed again meanwhile")
        return found.rows

    def month_of(self, organization: OrganizationId, window: Window, digest: str, until_ms: int) -> UsageMonth:
        """The revisions of a window that have that digest, as they stood at some moment up to `until_ms`.

        Raises NotFound: they never did. Revisions are looked at from the newest back, each moment of sealing once.
        """
        moments = (
            sa.select(usage_hours.c.sealed_ms)
            .distinct()
            .where(
                usage_hours.c.organization == organization,
                usage_hours.c.hour_ms > window.start_ms - HOUR_MS,
                usage_hours.c.hour_ms < window.end_ms,
                usage_hours.c.sealed_ms <= until_ms,
            )
            .order_by(usage_hours.c.sealed_ms.desc())
            .limit(MOST_MOMENTS)
        )
        sealed = self._database.read(lambda connection: connection.execute(moments).scalars().all())
        for moment_ms in sealed:
            found = self._database.read(
                partial(read_month, organization=organization, window=window, sealed_by_ms=moment_ms)
            )
            if found.revision_digest == digest:
                return found
        raise NotFound(f"{organization}: no revisions of {window} have the digest {truncate(digest)}")

    def meter(
        self,
        organization: OrganizationId,
        meter: str,
        window: Window,
        group_by: str | None,
        gaps: GapRule = NOT_BILLED,
    ) -> MeterUsage:
        """As `metered`, of one."""
        [found] = self.metered([MeterRequest(organization, meter, window, group_by, gaps)])
        return found

    def metered(self, requests: Sequence[MeterRequest]) -> list[MeterUsage]:
        """See `UsageReader.metered`; windows are cut at quarters of hours. Raises NotFound, InvalidInput."""

        def read(connection: sa.Connection) -> tuple[list[MeterUsage], list[ReadMeter]]:
            found = find_meters(connection, requests, self._meter_again)
            now = {one: meter_and_revisions(connection, one) for one in dict.fromkeys(requests) if one not in found}
            found |= {request: usage for request, (usage, _, _) in now.items()}
            return [found[one] for one in requests], [(request, *each) for request, each in now.items()]

        found, now = self._database.read(read)
        sealed = [each for each in now if each[1].sealed]
        if self._is_keeping and sealed:
            self._database.transact(partial(keep_meters, read=sealed))
        return found

    def _meter_again(self, request: MeterRequest, digest: str) -> MeterUsage:
        found = self._database.read(lambda connection: read_meter(connection, request))
        if found.revision_digest != digest:
            raise HoursMoved(f"{request.organization}: an hour of {request.meter} was sealed again meanwhile")
        return found

    def meter_of(self, request: MeterRequest, digest: str, until_ms: int) -> MeterUsage:
        """As `month_of`, of a meter, with its definitions. Raises NotFound."""
        moments = sealing_moments(request, until_ms).limit(MOST_MOMENTS)
        for moment_ms in self._database.read(lambda connection: connection.execute(moments).scalars().all()):
            found = self._database.read(partial(read_meter, request=request, sealed_by_ms=moment_ms))
            if found.revision_digest == digest:
                told = partial(read_definitions, request=request, sealed_by_ms=moment_ms)
                return replace(found, definitions=self._database.read(told))
        raise NotFound(
            f"{request.organization}: no revisions of {request.meter} have the digest {truncate(digest)}"
        )

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        """Whether any hour of `window`, of whichever meter, was sealed or sealed again after that moment."""

        def read(connection: sa.Connection) -> bool:
            for table in (usage_hours, meter_hours):
                query = sa.select(table.c.hour_ms).where(
                    table.c.organization == organization,
                    table.c.hour_ms > window.start_ms - HOUR_MS,
                    table.c.hour_ms < window.end_ms,
                    table.c.sealed_ms > moment_ms,
                )
                if connection.execute(query.limit(1)).first() is not None:
                    return True
            return False

        return self._database.read(read)

    def is_sealed(self, organization: OrganizationId, window: Window) -> bool:
        """Whether every hour that touches `window` is sealed, of the licence."""
        hours = whole_hours(window)
        count = sa.select(sa.func.count(sa.distinct(usage_hours.c.hour_ms))).where(
            usage_hours.c.organization == organization,
            usage_hours.c.hour_ms >= hours.start_ms,
            usage_hours.c.hour_ms < hours.end_ms,
        )
        found = self._database.read(lambda connection: connection.execute(count).scalar_one())
        return int(found) * HOUR_MS == hours.length_ms

    def open_components(self, organization: OrganizationId, before_ms: int) -> frozenset[Component]:
        """The components that existed at `before_ms`, by the newest revision of the hour that ends there."""
        newest = newest_revisions(organization, Window(before_ms - HOUR_MS, before_ms)).subquery()
        query = (
            sa.select(usage_rows)
            .join(
                newest,
                (usage_rows.c.hour_ms == newest.c.hour_ms) & (usage_rows.c.revision == newest.c.revision),
            )
            .where(usage_rows.c.organization == organization, usage_rows.c.open_at_end)
        )

        def read(connection: sa.Connection) -> frozenset[Component]:
            return frozenset(
                Component(ProjectId(row.project), ClusterId(row.cluster), row.component)
                for row in connection.execute(query)
            )

        return self._database.read(read)

    def checked(self, organization: OrganizationId, window: Window) -> dict[int, str]:
        """Digest of the files that each closed hour was computed from, by start of the hour."""
        return self._database.read(lambda connection: _checked(connection, organization, window))

    def checked_counts(self, organization: OrganizationId, window: Window) -> tuple[int, int]:
        """How many hours of the window were closed and need no look, of the licence and of meters."""

        def read(connection: sa.Connection) -> tuple[int, int]:
            of_licence, of_meters = (
                connection.execute(
                    sa.select(sa.func.count()).where(
                        table.c.organization == organization,
                        table.c.hour_ms >= window.start_ms,
                        table.c.hour_ms < window.end_ms,
                    )
                ).scalar_one()
                for table in (usage_checks, meter_checks)
            )
            return int(of_licence), int(of_meters)

        return self._database.read(read)

    def last_closed_ms(self, organization: OrganizationId) -> int | None:
        """End of the newest closed hour."""
        query = sa.select(sa.func.max(usage_hours.c.hour_ms)).where(usage_hours.c.organization == organization)
        newest = self._database.read(lambda connection: connection.execute(query).scalar())
        return None if newest is None else int(newest) + HOUR_MS


def open_keeping(database: Database) -> UsageStore:
    """A store that keeps what it reads: for a process that drafts, which finds it by name."""
    return UsageStore(database, keeping=True)


def _checked(connection: sa.Connection, organization: OrganizationId, window: Window) -> dict[int, str]:
    query = sa.select(usage_checks.c.hour_ms, usage_checks.c.files_digest).where(
        usage_checks.c.organization == organization,
        usage_checks.c.hour_ms >= window.start_ms,
        usage_checks.c.hour_ms < window.end_ms,
    )
    return {row.hour_ms: row.files_digest for row in connection.execute(query)}


def _check_unmoved(connection: sa.Connection, hours: Sequence[HourToSeal], expected: Mapping[int, str]) -> None:
    span = Window(hours[0].hour.start_ms, hours[-1].hour.end_ms)
    now = _checked(connection, hours[0].organization, span)
    for hour in hours:
        if now.get(hour.hour.start_ms) != expected.get(hour.hour.start_ms):
            raise HoursMoved(f"{hour.organization}: {hour.hour} was sealed by another closer meanwhile")
