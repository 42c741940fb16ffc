"""The invoice run: an organization's month from usage to final documents."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from billing.draft import USAGE, Draft, MeasuredPeriod, commitment_draft, needed_meters, usage_draft
from billing.errors import AmbiguousContract, NoContract
from billing.finalize import Finalizer, Invoice, find_invoice, load_invoice, load_invoices
from billing.rating.commitment import charges_of
from billing.spent import spent_before
from billing.store import AgreedContract, load_contract, load_contracts
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.database import Database
from kernel.ids import OrganizationId
from kernel.window import Window
from kernel.window import month as month_window
from metering.usage.model import UsageReader


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing a month gave. All of it is final, and the same again when the month is closed again."""

    invoice: Invoice  # the monthly one
    commitments: tuple[Invoice, ...]  # of commitments that began in the month or before it
    late_usage: bool  # the usage has changed since the invoice became final: it needs an adjustment


@dataclass(frozen=True, slots=True)
class InvoiceRun:
    """Methods block; call them from a worker thread."""

    database: Database
    usage: UsageReader
    clock: Clock
    audit: AuditLog
    actor: str = "billing"

    def draft(self, organization: OrganizationId, month: str, contract: str | None = None) -> Draft:
        """The monthly invoice as it would be now. The same contract and usage give the same bytes.

        `month` is YYYY-MM in the contract's time zone. Raises InvalidInput, NoContract, AmbiguousContract (name
        the contract when two cover parts of the month).
        """
        agreed, period = self._covering(organization, month, contract)
        return usage_draft(agreed, month, period, self._measured(agreed, period))

    def _measured(self, agreed: AgreedContract, period: Window) -> MeasuredPeriod:
        organization = OrganizationId(agreed.contract.organization)
        meters = {
            (piece.charge.charge, piece.window): self.usage.meter(
                organization, piece.charge.meter, piece.window, piece.charge.group_by
            )
            for piece in needed_meters(agreed, period)
        }
        issued = (one for one in self.invoices(organization) if one.contract == agreed.contract.contract)
        documents = (one.document for one in issued if one.kind == USAGE)
        spent = spent_before(agreed.contract, period, documents)
        return MeasuredPeriod(self.usage.month(organization, period), meters, spent)

    def commitments(self, contract: str, until_ms: int | None = None) -> tuple[Draft, ...]:
        """Drafts of a contract's commitments that begin before `until_ms` (None: by now), by date."""
        agreed = self.database.transact(lambda connection: load_contract(connection, contract))
        return _commitments(agreed, self.clock.now_ms() + 1 if until_ms is None else until_ms)

    def finalize(self, draft: Draft) -> Invoice:
        """Make a draft final, or return the final invoice of its period if there is one already.

        Raises UsageNotSealed; Conflict when the contract was amended meanwhile.
        """
        finalizer = Finalizer(self.clock, self.audit, self.actor)
        return self.database.transact(lambda connection: finalizer.finalize(connection, draft))

    def close(self, organization: OrganizationId, month: str, contract: str | None = None) -> Closed:
        """Finalize the commitments that began before the end of the month, then the month itself.

        Raises as `draft` and `finalize` do. What was finalized before an error stays final; closing again goes on.
        """
        draft = self.draft(organization, month, contract)
        if draft.sealed:  # nothing is issued for a month that can't be closed
            for charge in _commitments(draft.agreed, draft.period.end_ms):
                self.finalize(charge)
        invoice = self.finalize(draft)
        issued = self.invoices(organization)
        commitments = tuple(other for other in issued if other.contract == invoice.contract and other.kind != USAGE)
        digest = draft.usage.revision_digest if draft.usage else None
        return Closed(invoice, commitments, invoice.document["usage"]["revision_digest"] != digest)

    def invoice(self, number: str) -> Invoice:
        """A final invoice. Raises NotFound."""
        return self.database.transact(lambda connection: load_invoice(connection, number))

    def invoices(self, organization: OrganizationId | None = None) -> list[Invoice]:
        """All final invoices (of one organization), in order of their series."""
        return self.database.transact(lambda connection: load_invoices(connection, organization))

    def find(self, contract: str, month: str) -> Invoice | None:
        """The final monthly invoice of a contract, if it was issued."""

        def find(connection: sa.Connection) -> Invoice | None:
            return find_invoice(connection, contract, USAGE, month)

        return self.database.transact(find)

    def _covering(
        self, organization: OrganizationId, month: str, contract: str | None
    ) -> tuple[AgreedContract, Window]:
        month_window(month)  # a malformed month is the caller's mistake before any contract is looked at
        known = self.database.transact(lambda connection: load_contracts(connection, organization))
        covering = [
            (agreed, period)
            for agreed in known
            if contract in (None, agreed.contract.contract) and (period := _period(agreed, month))
        ]
        if not covering:
            named = f"contract {contract} does not cover" if contract else "no contract covers"
            raise NoContract(f"{organization}: {named} {month}; `byoc contract list` shows the terms")
        if len(covering) > 1:
            names = ", ".join(agreed.contract.contract for agreed, _ in covering)
            raise AmbiguousContract(f"{organization}: {month} is covered by {names}; name one with --contract")
        return covering[0]


def _period(agreed: AgreedContract, month: str) -> Window | None:
    return month_window(month, agreed.contract.time_zone).intersection(agreed.contract.window)


def _commitments(agreed: AgreedContract, until_ms: int) -> tuple[Draft, ...]:
    charges = (charge for charge in charges_of(agreed.contract) if charge.window.start_ms < until_ms)
    return tuple(commitment_draft(agreed, charge) for charge in charges)
