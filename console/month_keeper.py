"""Months are read once their hours are all sealed: invoicing them then reads no row (`metering.usage.totals`)."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter

from billing.agreed import AgreedContract
from billing.api import ContractBook, InvoiceRun
from console.wiring import Vendor
from kernel.errors import ByocError, Retry
from kernel.ids import OrganizationId
from kernel.logs import logger
from kernel.window import month, month_name, previous_month
from metering.usage.api import open_keeping

_log = logger("console")


class MonthKeeper:
    """Looks each `interval_seconds` at the month before this one, of every contract in its own zone.

    What is refused here is refused again by whoever invoices it, and told there.
    """

    def __init__(self, vendor: Vendor, interval_seconds: float, registry: CollectorRegistry | None = None) -> None:
        database, self._clock = vendor.database(), vendor.clock
        self._usage = open_keeping(database)
        self._book = ContractBook(database, self._clock, vendor.audit())
        self._run = InvoiceRun(database, self._usage, self._clock, vendor.audit(), "months")
        self._interval = interval_seconds
        self._read: dict[str, str] = {}  # the last month that was read, by contract
        self._months = Counter(
            "byoc_billing_months_read", "Months of contracts read once their hours were sealed", registry=registry
        )

    async def run(self) -> None:
        """Until cancelled. A passing fault of the database waits for the next look."""
        while True:
            try:
                await self.look()
            except Retry as error:
                _log.warning("months_wait", error=str(error))
            await self._clock.sleep(self._interval)

    async def look(self) -> int:
        """Read what is due and was not read yet; returns how many months. Raises Retry."""
        count = 0
        for agreed in await asyncio.to_thread(self._book.contracts):
            started = time.perf_counter()
            if await asyncio.to_thread(self._is_read, agreed):
                count += 1
                self._months.inc()
                await asyncio.sleep(time.perf_counter() - started)  # the half of a core at most
        return count

    def _is_read(self, agreed: AgreedContract) -> bool:
        """Whether there was a month to read."""
        contract = agreed.contract
        name = previous_month(month_name(self._clock.now(), contract.time_zone))
        period = month(name, contract.time_zone).intersection(contract.window)
        owner = OrganizationId(contract.organization)
        if period is None or self._read.get(contract.contract) == name or not self._usage.is_sealed(owner, period):
            return False
        try:
            draft = self._run.draft(owner, name, contract.contract)
        except Retry:
            raise
        except ByocError as error:
            _log.info("month_not_read", contract=contract.contract, month=name, reason=str(error))
            self._read[contract.contract] = name
            return False
        if draft.sealed:  # else its meters are still to be sealed
            self._read[contract.contract] = name
        return draft.sealed
