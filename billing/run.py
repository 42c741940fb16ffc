"""The invoice run: an organization's month from usage to final documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from billing.admission import admission_findings
from billing.agreed import AgreedContract
from billing.contract import Contract, parse_contract
from billing.credited import credited_at_close
from billing.documents import Snapshot
from billing.draft import COMMITMENT, USAGE, Draft, commitment_draft, threshold_draft, usage_draft
from billing.errors import AmbiguousContract, NoContract
from billing.finalize import Finalizer
from billing.gathering import Gathering
from billing.invoices import Invoice, Issued, find_invoice, load_invoice, load_invoices, load_issued
from billing.life import Phase, phase_of
from billing.listing import Unbilled, unbilled_months
from billing.prepared import prepare
from billing.proof.statement import InvoiceSigner
from billing.rating.commitment import charges_of
from billing.simulation import Priced, Simulation, priced_documents, priced_draft
from billing.store import agree_stored, load_contract, load_contracts, load_contracts_of
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import InvalidInput, raise_findings
from kernel.ids import OrganizationId
from kernel.lines import naming_lines
from kernel.money import currency
from kernel.window import Window
from kernel.window import month as month_window
from metering.usage.model import UsageReader


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing a month gave. All of it is final, and the same again when the month is closed again."""

    invoice: Invoice  # the monthly one
    commitments: tuple[Invoice, ...]  # of commitments that began in the month or before it
    credits: tuple[Invoice, ...] = ()  # credit notes for usage that came late, now or at a close before
    late: tuple[str, ...] = field(default=())  # invoices whose later usage waits for the next invoice

    @property
    def late_usage(self) -> bool:
        """Usage of this month has changed since its invoice: the next invoice bills it, or a credit note did."""
        return self.invoice.number in self.late or any(
            one.document["credits"] == self.invoice.number for one in self.credits
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of some organizations, read at one moment."""

    contracts: Mapping[OrganizationId, Sequence[AgreedContract]]
    issued: Mapping[str, Issued]  # by contract


@dataclass(frozen=True, slots=True)
class InvoiceRun:
    """Methods block; call them from a worker thread."""

    database: Database
    usage: UsageReader
    clock: Clock
    audit: AuditLog
    actor: str = "billing"
    signer: InvoiceSigner | None = None  # signs what is issued

    def draft(self, organization: OrganizationId, month: str, contract: str | None = None) -> Draft:
        """The monthly invoice as it would be now. The same contract, usage and documents give the same bytes.

        `month` is YYYY-MM in the contract's time zone. Raises InvalidInput, NoContract, AmbiguousContract (name
        the contract when two cover parts of the month).
        """
        agreed, period = self.covering(organization, month, contract)
        return usage_draft(agreed, month, period, self._gathering.of(agreed, month, period))

    def known(self, organizations: Sequence[OrganizationId]) -> Known:
        """Contracts and documents of many organizations at once, for `due`."""

        def read(connection: sa.Connection) -> Known:
            agreed = load_contracts_of(connection, organizations)
            contracts = [one.contract.contract for each in agreed.values() for one in each]
            return Known(agreed, load_issued(connection, contracts))

        return self.database.read(read)

    def due(self, organization: OrganizationId, month: str, known: Known) -> list[Draft]:
        """Everything due for one organization with its month, in the order of issue.

        Raises InvalidInput for no month, NoContract, and what reading usage raises.
        """
        covering = _covering(known.contracts[organization], month)
        if not covering:
            raise NoContract(f"{organization}: no contract covers {month}")
        found: list[Draft] = []
        for agreed, period in covering:
            issued = known.issued[agreed.contract.contract]
            draft = usage_draft(agreed, month, period, self._gathering.of(agreed, month, period, issued))
            found += self._gathering.credits_due(agreed.contract.contract, issued)
            if draft.sealed:  # nothing is issued for a month that can't be closed
                found += commitments_before(agreed, period.end_ms)
            found.append(draft)
        return found

    def simulate(
        self,
        organization: OrganizationId,
        month: str,
        document: tuple[str, str],
        contract: str | None = None,
        meters: Collection[str] | None = None,
    ) -> Simulation:
        """A month under a contract that is not stored, given as its text and where that is from.

        `contract`: what it is compared with, as in `draft`; `meters`: those that the other may charge for.
        Raises InvalidInput, NoContract, AmbiguousContract.
        """
        text, source = document
        other = parse_contract(text, source)
        with naming_lines(text, source):
            raise_findings(admission_findings(other, meters, source))
            if other.organization != organization:
                raise InvalidInput.single(source, "organization", other.organization, organization)
        own, own_period = self.covering(organization, month, contract)
        period = month_window(month, other.time_zone).intersection(other.window)
        if period is None:
            raise NoContract(f"{source}: its term does not cover {month}")
        agreed = self.database.read(lambda connection: agree_stored(connection, other, Snapshot.of(text), source))
        drafts = [
            usage_draft(each, month, window, self._gathering.of(each, month, window))
            for each, window in ((own, own_period), (agreed, period))
        ]
        return Simulation(self._billed(own.contract, month), *(priced_draft(each) for each in drafts))

    def _billed(self, contract: Contract, month: str) -> Priced | None:
        issued = self.database.read(lambda connection: load_issued(connection, [contract.contract]))
        standing = issued[contract.contract].standing
        numbers = [one.number for one in standing if one.kind == USAGE and one.period.partition(".")[0] == month]
        documents = [one.document for one in standing]
        return priced_documents(numbers[-1], documents, currency(contract.currency)) if numbers else None

    def phase(self, organization: OrganizationId, month: str, contract: str | None = None) -> Phase:
        """Whether the month goes on, is in grace, or can be finalized."""
        agreed, period = self.covering(organization, month, contract)
        return phase_of(period, agreed.contract.grace_hours, self.clock.now_ms())

    def threshold(self, organization: OrganizationId, month: str, contract: str | None = None) -> Invoice | None:
        """Invoice what a running month has cost, if that reaches the contract's threshold; None if not.

        Idempotent while the usage is the same: what is billed counts, so there is nothing left to bill.
        """
        agreed, period = self.covering(organization, month, contract)
        if self.database.read(lambda connection: find_invoice(connection, agreed.contract.contract, USAGE, month)):
            return None
        draft = threshold_draft(agreed, month, period, self._gathering.of(agreed, month, period))
        return self.finalize(draft) if draft else None

    def commitments(self, contract: str, until_ms: int | None = None) -> tuple[Draft, ...]:
        """Drafts of a contract's commitments that begin before `until_ms` (None: by now), by date."""
        agreed = self.database.read(lambda connection: load_contract(connection, contract))
        return commitments_before(agreed, self.clock.now_ms() + 1 if until_ms is None else until_ms)

    def finalize(self, draft: Draft) -> Invoice:
        """Make a draft final, or return the document of its period that stands.

        Raises UsageNotSealed, GraceNotOver, QuantityUnknown, NotApproved; Conflict when what it rests on changed
        meanwhile.
        """
        finalizer = Finalizer(self.clock, self.audit, self.actor, self.signer)
        prepared = prepare(draft)
        return self.database.transact(lambda connection: finalizer.finalize(connection, prepared))

    def credit_late(self, contract: str) -> tuple[Invoice, ...]:
        """Issue the credit notes for late usage that made finished months cheaper."""
        return tuple(self.finalize(draft) for draft in self.credits_due(contract))

    def close(self, organization: OrganizationId, month: str, contract: str | None = None) -> Closed:
        """Credit what became cheaper, finalize the commitments that began by the end of the month, then the month.

        Raises as `draft` and `finalize` do. What was finalized before an error stays final; closing again goes on.
        """
        agreed, _ = self.covering(organization, month, contract)
        self.credit_late(agreed.contract.contract)
        draft = self.draft(organization, month, contract)
        if draft.sealed:  # nothing is issued for a month that can't be closed
            for charge in commitments_before(draft.agreed, draft.period.end_ms):
                self.finalize(charge)
        invoice = self.finalize(draft)
        issued = self.database.read(lambda connection: load_issued(connection, [invoice.contract]))
        standing = issued[invoice.contract].standing
        commitments = tuple(other for other in standing if other.kind == COMMITMENT)
        waiting = self._gathering.waiting(agreed.contract.contract)
        of_month = self.database.read(lambda connection: credited_at_close(connection, [organization], month))
        credited = tuple(note for note in of_month[organization] if note.contract == invoice.contract)
        return Closed(invoice, commitments, credited, tuple(one.number for one in waiting))

    def invoice(self, number: str) -> Invoice:
        """An issued document. Raises NotFound."""
        return self.database.read(lambda connection: load_invoice(connection, number))

    def invoices(self, organization: OrganizationId | None = None) -> list[Invoice]:
        """All issued documents (of one organization), in order of their series."""
        return self.database.read(lambda connection: load_invoices(connection, organization))

    def unbilled(self, organization: OrganizationId | None = None) -> list[Unbilled]:
        """The months that have begun and have no invoice that stands (of one organization), by contract."""

        def read(connection: sa.Connection) -> list[tuple[Contract, Issued]]:
            known = [one.contract for one in load_contracts(connection, organization)]
            issued = load_issued(connection, [one.contract for one in known])
            return [(one, issued[one.contract]) for one in known]

        now_ms = self.clock.now_ms()
        return [
            month
            for contract, issued in self.database.read(read)
            for month in unbilled_months(contract, issued.months(USAGE), now_ms)
        ]

    def find(self, contract: str, month: str) -> Invoice | None:
        """The monthly invoice of a contract that stands, if it was issued."""

        def find(connection: sa.Connection) -> Invoice | None:
            return find_invoice(connection, contract, USAGE, month)

        return self.database.read(find)

    def covering(
        self, organization: OrganizationId, month: str, contract: str | None = None
    ) -> tuple[AgreedContract, Window]:
        """The contract that covers a month, and the part of the month in its term."""
        covering = self.covering_each(organization, month, contract)
        if len(covering) > 1:
            names = ", ".join(agreed.contract.contract for agreed, _ in covering)
            raise AmbiguousContract(f"{organization}: {month} is covered by {names}; name one with --contract")
        return covering[0]

    def covering_each(
        self, organization: OrganizationId, month: str, contract: str | None = None
    ) -> list[tuple[AgreedContract, Window]]:
        """Every contract that covers a part of a month (or the one named), with that part, by id.

        Raises InvalidInput for no month, NoContract.
        """
        known = self.database.read(lambda connection: load_contracts(connection, organization))
        covering = [one for one in _covering(known, month) if contract in (None, one[0].contract.contract)]
        if not covering:
            named = f"contract {contract} does not cover" if contract else "no contract covers"
            raise NoContract(f"{organization}: {named} {month}; `byoc contract list` shows the terms")
        return covering

    def credits_due(self, contract: str) -> list[Draft]:
        """The credit notes for months that later usage made cheaper."""
        return self._gathering.credits_due(contract)

    @property
    def _gathering(self) -> Gathering:
        return Gathering(self.database, self.usage, self.clock)


def _covering(known: Sequence[AgreedContract], month: str) -> list[tuple[AgreedContract, Window]]:
    month_window(month)  # a malformed month is the caller's mistake before any contract is looked at
    return [(agreed, period) for agreed in known if (period := _period(agreed, month))]


def _period(agreed: AgreedContract, month: str) -> Window | None:
    return month_window(month, agreed.contract.time_zone).intersection(agreed.contract.window)


def commitments_before(agreed: AgreedContract, until_ms: int) -> tuple[Draft, ...]:
    """Drafts of the contract's commitments that begin before a moment, by date."""
    charges = (charge for charge in charges_of(agreed.contract) if charge.window.start_ms < until_ms)
    return tuple(commitment_draft(agreed, charge) for charge in charges)
