"""Documents leave by themselves: the outbox is mailed as long as `byoc up` runs, by whichever process is first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge

from billing.delivery import Delivery, SmtpTransport, Transport, contract_address
from billing.settings import DeliverySettings
from kernel.clock import Clock
from kernel.errors import ByocError
from kernel.logs import logger

_log = logger("billing")


class DeliveryWorker:
    """Looks at the outbox each `interval_seconds`; what was refused waits for the next look, and is logged."""

    def __init__(
        self,
        delivery: Delivery,
        settings: DeliverySettings,
        clock: Clock,
        registry: CollectorRegistry | None = None,
        connect: Callable[[DeliverySettings], AbstractContextManager[Transport]] = SmtpTransport,
    ) -> None:
        self._delivery = delivery
        self._settings = settings
        self._clock = clock
        self._connect = connect
        self._handed = Counter("byoc_billing_documents_handed_over", "Documents mailed", registry=registry)
        self._waiting = Gauge("byoc_billing_documents_waiting", "Documents in the outbox", registry=registry)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except ByocError as error:
                _log.warning("delivery_waits", error=str(error))
            await self._clock.sleep(self._settings.interval_seconds)

    def look(self) -> int:
        """Hand over what waits; returns how many documents were. Connects only when one waits. Raises ByocError."""
        if not self._delivery.waiting():
            self._waiting.set(0)
            return 0
        handed = 0
        with self._connect(self._settings) as transport:
            for one in self._delivery.deliver(transport, contract_address):
                handed += one.to is not None
                if one.to is None:
                    _log.warning("document_not_handed_over", number=one.number, reason=one.reason)
        self._handed.inc(handed)
        self._waiting.set(len(self._delivery.waiting()))
        return handed
