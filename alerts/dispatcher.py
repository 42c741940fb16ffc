"""One queue for each receiver: a slow or dead one keeps nobody else waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import sqlalchemy as sa

from alerts.ledger import Recorded, escalate, load_receiver, record_attempt
from alerts.metrics import AlertMetrics
from alerts.outbox import Work, next_work
from alerts.settings import AlertSettings, ReceiverSettings
from alerts.webhook import Endpoint, WebhookSender
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import Retry
from kernel.logs import logger

_log = logger("alerts")


class Dispatcher:
    """Sends what waits in the outbox, for each receiver in the order of its groups' oldest change.

    At least once: a crash between the receiver's 2xx and our record of it sends the same webhook-id again.
    """

    def __init__(self, database: Database, clock: Clock, settings: AlertSettings, metrics: AlertMetrics) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._receivers: Mapping[str, ReceiverSettings] = {found.name: found for found in settings.receivers}
        self._endpoints = {
            found.name: Endpoint(found.url, found.load_secrets(), found.timeout_seconds)
            for found in settings.receivers
        }
        self._sender = WebhookSender(
            clock,
            allow_private=settings.allow_private_receivers,
            retry_after_limit_ms=round(settings.retry_after_limit_seconds * 1000),
        )
        self._wake = {name: asyncio.Event() for name in self._receivers}

    def wake(self) -> None:
        """Look into the outbox now."""
        for event in self._wake.values():
            event.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._receivers:
                    group.create_task(self._run_receiver(name), name=f"alerts.receiver.{name}")
                group.create_task(_forever())
        finally:
            await self._sender.close()

    async def _run_receiver(self, name: str) -> None:
        while True:
            self._wake[name].clear()
            try:
                while await self.send_next(name):
                    pass
            except Retry as error:
                _log.warning("outbox_unavailable", receiver=name, error=str(error))
            await self._pause(name)

    async def _pause(self, name: str) -> None:
        """Until woken, at most `poll_seconds`: due times are looked at that often."""
        waiters = [
            asyncio.ensure_future(self._wake[name].wait()),
            asyncio.ensure_future(self._clock.sleep(self._settings.poll_seconds)),
        ]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def send_next(self, name: str) -> bool:
        """Send the next due message of a receiver; False when there is none, or it may not be tried now."""
        receiver = self._receivers[name]
        work = await self._database.run(lambda connection: self._take(connection, receiver))
        if work is None:
            return False
        crash_point("alerts.posting")
        attempt = await self._sender.send(self._endpoints[name], work.message)
        recorded = await self._database.run(
            lambda connection: record_attempt(connection, receiver, self._settings, work, attempt)
        )
        self._metrics.deliveries.labels(name, attempt.outcome.value).inc()
        self._note(work, recorded)
        _log.info(
            "webhook_sent",
            receiver=name,
            organization=work.organization,
            webhook_id=work.message.webhook_id,
            outcome=attempt.outcome.value,
            status=attempt.status,
        )
        return True

    def _take(self, connection: sa.Connection, receiver: ReceiverSettings) -> Work | None:
        now_ms = self._clock.now_ms()
        state = load_receiver(connection, receiver.name)
        if state.disabled_ms is not None:
            escalate(connection, receiver, now_ms)
        if not state.may_try(now_ms):
            return None
        return next_work(connection, receiver, self._settings.external_url, now_ms)

    def _note(self, work: Work, recorded: Recorded) -> None:
        if recorded.escalated:
            self._metrics.escalated.labels(work.receiver).inc(recorded.escalated)
            self.wake()
        if recorded.expired:
            self._metrics.expired.labels(work.receiver).inc()
            _log.error(
                "page_given_up", receiver=work.receiver, organization=work.organization, group=work.group_key
            )

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._sender.close()


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()
