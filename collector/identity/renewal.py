"""Enrols when there is no certificate, renews at two thirds of its life; never stops the scraping."""

from __future__ import annotations

import random
from typing import Protocol

from collector.errors import EnrolmentFailed, IdentityRefused
from collector.identity.client import IdentityClient
from collector.identity.store import HeldCertificate
from collector.metrics import CollectorMetrics
from collector.push.backoff import Backoff
from kernel.clock import Clock
from kernel.errors import InvalidInput
from kernel.logs import logger

_log = logger("identity")
_MIN_WAIT_SECONDS = 1.0
_MAX_WAIT_SECONDS = 10.0  # a wall clock that was set right, or a machine that slept, is noticed within it


class Reloads(Protocol):
    """Whoever holds connections that were made with the old certificate."""

    async def reload(self) -> None:
        """Make new ones."""


class Renewal:
    """A task beside the push."""

    def __init__(self, client: IdentityClient, sender: Reloads, metrics: CollectorMetrics, clock: Clock) -> None:
        self.problem: str | None = "no certificate yet"
        self._client = client
        self._sender = sender
        self._metrics = metrics
        self._clock = clock
        self._backoff = Backoff(1.0, 60.0, random.Random())

    async def run(self) -> None:
        """For ever. Faults are said, counted and tried again."""
        while True:
            try:
                held = await self._client.ensure()
                if held.renew_at <= self._clock.now():
                    held = await self._client.renew()
                    await self._sender.reload()
            except (IdentityRefused, EnrolmentFailed, InvalidInput, OSError) as error:
                if self.problem != str(error):
                    _log.error("identity_problem", error=str(error))
                self.problem = str(error)
                await self._clock.sleep(self._backoff.next_seconds())
                continue
            await self._use(held)

    async def _use(self, held: HeldCertificate) -> None:
        if self.problem is not None:
            await self._sender.reload()
        self.problem = None
        self._backoff.reset()
        self._metrics.certificate.set(held.not_after.timestamp())
        wait = (held.renew_at - self._clock.now()).total_seconds()
        await self._clock.sleep(min(max(wait, _MIN_WAIT_SECONDS), _MAX_WAIT_SECONDS))
