"""Contracts go on by themselves while `byoc up` runs: renewals that are due, and commitments that have begun."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter

from billing.agreed import AgreedContract
from billing.book import ContractBook
from billing.draft import COMMITMENT, Draft
from billing.models import invoices
from billing.run import InvoiceRun, commitments_before
from billing.settings import TermsSettings
from kernel.errors import ByocError, Retry
from kernel.logs import logger

ACTOR = "terms"
_log = logger("billing")


class TermsWorker:
    """Looks each `interval_seconds`. Several processes may: what one has stored, the others find stored.

    What is refused is logged at each look and holds up nothing else.
    """

    def __init__(
        self,
        book: ContractBook,
        run: InvoiceRun,
        settings: TermsSettings,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._book = book
        self._run = run
        self._settings = settings
        self._renewed = Counter(
            "byoc_billing_contracts_renewed", "Contracts renewed by the timer", registry=registry
        )
        self._issued = Counter(
            "byoc_billing_commitments_issued", "Commitment invoices issued by the timer", registry=registry
        )

    async def run(self) -> None:
        """Until cancelled. A passing fault of the database waits for the next look."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Retry as error:
                _log.warning("terms_wait", error=str(error))
            await self._book.clock.sleep(self._settings.interval_seconds)

    def look(self) -> None:
        """Do once what the settings ask for. Raises Retry."""
        if self._settings.renew:
            self._renew()
        if self._settings.commitments:
            self._invoice()

    def _renew(self) -> None:
        for name in self._book.renewals_due():
            try:
                renewed = self._book.renew(name, ACTOR)
            except Retry:
                raise
            except ByocError as error:
                _log.warning("contract_not_renewed", contract=name, reason=str(error))
            else:
                self._renewed.inc()
                _log.info("contract_renewed", contract=name, following=renewed.contract)

    def _invoice(self) -> None:
        for draft in self._commitments_due():
            try:
                invoice = self._run.finalize(draft)
            except Retry:
                raise
            except ByocError as error:
                _log.warning("commitment_not_invoiced", contract=draft.agreed.contract.contract, reason=str(error))
            else:
                self._issued.inc()
                _log.info("commitment_invoiced", number=invoice.number, contract=invoice.contract)

    def _commitments_due(self) -> Iterator[Draft]:
        """Those of running contracts that have begun and never had an invoice: a void one is left to people."""
        now_ms = self._run.clock.now_ms()
        known = self._run.database.read(_invoiced)
        for agreed in self._book.contracts():
            if now_ms in agreed.contract.window:
                yield from _not_in(known, agreed, now_ms)


def _not_in(known: frozenset[tuple[str, str]], agreed: AgreedContract, now_ms: int) -> Iterator[Draft]:
    for draft in commitments_before(agreed, now_ms + 1):
        if (agreed.contract.contract, draft.period_name) not in known:
            yield draft


def _invoiced(connection: sa.Connection) -> frozenset[tuple[str, str]]:
    """Contract and first day of each commitment that ever had an invoice."""
    query = sa.select(invoices.c.contract, invoices.c.period).where(invoices.c.kind == COMMITMENT)
    return frozenset((row.contract, row.period.partition(".")[0]) for row in connection.execute(query))
