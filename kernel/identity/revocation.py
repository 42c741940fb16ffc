"""Revocation: a list of serial numbers, held in memory and read again every second."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import InvalidInput, Retry
from kernel.identity.authority import MAX_RENEWAL_GRACE
from kernel.identity.errors import RevocationsStale
from kernel.identity.models import certificates, revocations
from kernel.identity.register import AuditTrail, cancel_tokens, lock_collector, of_collector
from kernel.ids import CollectorId, Tenant
from kernel.logs import logger

REFRESH_SECONDS = 1.0
STALE_SECONDS = 30.0
GRACE_MS = round(MAX_RENEWAL_GRACE.total_seconds() * 1000)  # after its end it may still renew: it stays listed
_SERIAL_LENGTH = 40
_log = logger("identity")


class Revocations:
    """Which certificates are revoked.

    `revoke_*` are in effect in this process when they return, and in others after their next refresh. When the list
    could not be read for `STALE_SECONDS`, `is_revoked` raises rather than let anyone in on an old list.
    """

    def __init__(self, database: Database, clock: Clock, audit: AuditTrail | None = None) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit
        self._serials: frozenset[str] = frozenset()
        self._refreshed: float | None = None  # monotonic seconds
        self._listeners: list[Callable[[], None]] = []
        self._refreshing = threading.Lock()

    def revoke_collector(self, tenant: Tenant, collector: CollectorId, reason: str, actor: str = "vendor") -> int:
        """Revoke every certificate of a collector that is good or may still renew itself, and cancel its unused
        tokens; how many certificates.

        It may be enrolled again with a token made afterwards. Blocking.
        """
        now_ms = self._clock.now_ms()

        def revoke(connection: sa.Connection) -> int:
            lock_collector(connection, tenant, collector)
            valid = sa.select(certificates.c.serial, certificates.c.not_after_ms).where(
                of_collector(certificates, tenant, collector),
                certificates.c.not_after_ms > now_ms - GRACE_MS,
                certificates.c.serial.not_in(sa.select(revocations.c.serial)),
            )
            rows = [tuple(row) for row in connection.execute(valid)]
            self._insert(connection, rows, reason)
            tokens = cancel_tokens(connection, tenant, collector, now_ms)
            details = {"reason": reason, "certificates": len(rows), "tokens": tokens}
            self._note(connection, actor, "collector_revoked", f"{tenant}/{collector}", details)
            return len(rows)

        count = self._database.transact(revoke)
        self.refresh()
        return count

    def revoke_serial(self, serial: str, reason: str, actor: str = "vendor") -> None:
        """Revoke one certificate, known here or not; again is no error. Blocking. Raises InvalidInput."""
        serial = parse_serial(serial)

        def revoke(connection: sa.Connection) -> None:
            if connection.execute(sa.select(revocations.c.serial).where(revocations.c.serial == serial)).first():
                return
            expiry = sa.select(certificates.c.not_after_ms).where(certificates.c.serial == serial)
            self._insert(connection, [(serial, connection.execute(expiry).scalar())], reason)
            self._note(connection, actor, "certificate_revoked", serial, {"reason": reason})

        self._database.transact(revoke)
        self.refresh()

    def is_revoked(self, serial: str) -> bool:
        """From memory. Raises RevocationsStale before the first refresh and when the list is too old."""
        if self._refreshed is None or self._clock.monotonic() - self._refreshed > STALE_SECONDS:
            raise RevocationsStale(f"the list of revocations is older than {STALE_SECONDS:g} s: check the database")
        return serial in self._serials

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each refresh that changed the list, in the thread of the refresh."""
        self._listeners.append(listener)

    def refresh(self) -> None:
        """Read the list again. Blocking. Raises DatabaseUnavailable."""
        with self._refreshing:  # or an older answer could replace a newer one
            self._read()

    def _read(self) -> None:
        started = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        not_after = revocations.c.not_after_ms
        query = sa.select(revocations.c.serial).where(sa.or_(not_after.is_(None), not_after > now_ms - GRACE_MS))
        rows = self._database.transact(lambda connection: connection.execute(query).scalars().all())
        before, self._serials, self._refreshed = self._serials, frozenset(rows), started
        if self._serials != before:
            for listener in self._listeners:
                listener()

    async def run(self) -> None:
        """Refresh every second until cancelled; a database that is away is logged and tried again."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except (Retry, sa.exc.DBAPIError) as error:
                _log.warning("revocations_not_refreshed", error=str(error))
            await self._clock.sleep(REFRESH_SECONDS)

    def _insert(self, connection: sa.Connection, rows: list[tuple[str, int | None]], reason: str) -> None:
        now_ms = self._clock.now_ms()
        for serial, not_after_ms in rows:
            connection.execute(
                revocations.insert().values(
                    serial=serial, revoked_ms=now_ms, not_after_ms=not_after_ms, reason=reason[:200]
                )
            )

    def _note(
        self, connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, object]
    ) -> None:
        if self._audit:
            self._audit.append(connection, actor, action, subject, details)


def parse_serial(text: str) -> str:
    """A serial number as a certificate shows it (colons, capitals, leading zeros too). Raises InvalidInput."""
    digits = text.replace(":", "").lower().lstrip("0")
    if not digits or len(digits) > _SERIAL_LENGTH or not set(digits) <= set("0123456789abcdef"):
        raise InvalidInput.single("revocation", "serial", repr(text), "1 to 40 hexadecimal digits")
    return digits
