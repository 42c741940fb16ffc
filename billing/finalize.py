"""From draft to final: number, document, postings and outbox row in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from billing.corrections import Correction
from billing.document import utc_text
from billing.draft import COMMITMENT, CREDIT_NOTE, USAGE, Draft, canonical, digest
from billing.errors import GraceNotOver, NotApproved, UsageNotSealed
from billing.invoices import Invoice, find_issues, load_invoices, standing, state_of
from billing.ledger import Posting, draw_postings, postings_of
from billing.life import Phase, State, phase_of
from billing.models import approvals, draws, entries, invoices, outbox, postings
from billing.numbers import CREDIT_NOTES, Number, take_number
from billing.prepaid import load_grants
from billing.pricing.credits import Draw, draw
from billing.store import load_contract, lock_organization
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.errors import Conflict, Refuse
from kernel.ids import OrganizationId
from kernel.money import Currency, Money, total


@dataclass(frozen=True, slots=True)
class Finalizer:
    """Makes drafts final."""

    clock: Clock
    audit: AuditLog
    actor: str

    def finalize(self, connection: sa.Connection, draft: Draft) -> Invoice:
        """The final document of the draft's contract, kind and period: the stored one if one stands.

        A period whose document is void is issued again. Raises UsageNotSealed, GraceNotOver, NotApproved; Conflict
        when the contract, or what a correction counted as billed, has changed since the draft was made.
        """
        contract = draft.agreed.contract
        lock_organization(connection, OrganizationId(contract.organization))
        issues = find_issues(connection, contract.contract, draft.kind, draft.period_name)
        stored = _standing_issue(connection, draft, issues)
        if stored is not None:
            return stored
        self._check(connection, draft)
        issue = draft.issue or len(issues) + 1
        if draft.issue and len(issues) + 1 != draft.issue:
            raise Conflict(f"{draft.kind} {draft.period_name}: another was issued meanwhile; draft again")
        return self._issue(connection, draft, issue)

    def _check(self, connection: sa.Connection, draft: Draft) -> None:
        contract = draft.agreed.contract
        if draft.kind == USAGE:
            phase = phase_of(draft.period, contract.grace_hours, self.clock.now_ms())
            if phase is not Phase.DUE:
                until = f"{contract.grace_hours} hours after its end"
                raise GraceNotOver(f"{draft.period_name} of {contract.organization} is {phase}: final from {until}")
            if not draft.sealed:
                message = f"usage of {contract.organization} in {draft.period_name} is not sealed yet"
                raise UsageNotSealed(f"{message}; wait until its hours are closed, then finalize again")
            if contract.approval and not _is_approved(connection, digest(draft.json())):
                message = f"{contract.contract} asks for approval of draft {digest(draft.json())}"
                raise NotApproved(f"{message}: `byoc invoice approve {contract.organization} {draft.period_name}`")
        if draft.kind in {USAGE, COMMITMENT}:
            newest = load_contract(connection, contract.contract)
            if newest.snapshot != draft.agreed.snapshot:
                raise Conflict(f"contract {contract.contract} was amended meanwhile; draft and finalize again")
        _check_counted(connection, contract.contract, draft.corrections)
        if draft.reference is not None:
            left = creditable(connection, contract.contract, draft.reference, draft.currency)
            if left + draft.net < Money.zero(draft.currency):
                raise Refuse(f"{draft.reference}: {-draft.net} is more than what is left to credit, {left}")

    def _issue(self, connection: sa.Connection, draft: Draft, issue: int) -> Invoice:
        contract, kind = draft.agreed.contract, draft.kind
        series = contract.legal_entity.id + (CREDIT_NOTES if kind == CREDIT_NOTE else "")
        number = take_number(connection, contract.legal_entity, series, self.clock.now_ms())
        organization = OrganizationId(contract.organization)
        drawn: tuple[Draw, ...] = ()
        due = draft.gross
        if kind != CREDIT_NOTE:
            drawn, due = draw(load_grants(connection, organization, draft.currency), draft.gross, number.issued_ms)
        encoded = canonical(_issued(draft, number, issue, drawn, due))
        invoice = Invoice(
            number=number.text,
            organization=organization,
            contract=contract.contract,
            kind=kind,
            period=draft.period_name if issue == 1 and draft.issue is None else f"{draft.period_name}.{issue}",
            currency=draft.currency.code,
            gross=f"{draft.gross.amount:f}",
            issued_ms=number.issued_ms,
            content_sha256=digest(draft.json()),
            sha256=digest(encoded),
            json=encoded,
        )
        _store(connection, invoice, number, draft)
        _store_draws(connection, invoice, drawn)
        details = {"sha256": invoice.sha256, "gross": invoice.gross, "currency": invoice.currency}
        self.audit.append(connection, self.actor, "invoice.finalize", invoice.number, details)
        return invoice


def _issued(draft: Draft, number: Number, issue: int, drawn: Iterable[Draw], due: Money) -> dict[str, Any]:
    due_date = date.fromisoformat(number.issue_date) + timedelta(days=draft.agreed.contract.payment_days)
    prepaid = [{"grant": one.grant, "amount": f"{one.amount.amount:f}"} for one in drawn]
    return draft.document() | {
        "status": "final",
        "number": number.text,
        "issued_at": utc_text(number.issued_ms),
        "issue_date": number.issue_date,
        **({"issue": str(issue)} if issue > 1 and draft.issue is None else {}),
        "payment": {"prepaid": prepaid, "due": f"{due.amount:f}", "due_date": due_date.isoformat()},
    }


def _standing_issue(connection: sa.Connection, draft: Draft, issues: list[Invoice]) -> Invoice | None:
    if draft.issue is not None:  # credit notes and threshold invoices: the n-th, by content
        same = [one for one in issues if one.content_sha256 == digest(draft.json())]
        return same[-1] if same else None
    if issues and state_of(connection, issues[-1].number) is not State.VOID:
        return issues[-1]
    return None


def _is_approved(connection: sa.Connection, content_sha256: str) -> bool:
    query = sa.select(approvals.c.actor).where(approvals.c.content_sha256 == content_sha256)
    return connection.execute(query).first() is not None


def _check_counted(connection: sa.Connection, contract: str, corrections: Iterable[Correction]) -> None:
    """A correction is billed once: what counted as billed must still be all that stands."""
    for correction in corrections:
        counted = counted_documents(connection, contract, correction.number)
        if tuple(one.number for one in counted) != correction.counted:
            raise Conflict(f"{correction.number} was corrected meanwhile; draft and finalize again")


def counted_documents(connection: sa.Connection, contract: str, number: str) -> list[Invoice]:
    """The standing documents of a contract that bill the period of invoice `number`: itself and its corrections."""
    stands = standing(connection, load_invoices(connection, contract=contract))
    return [
        one
        for one in stands
        if one.number == number or any(line.get("corrects") == number for line in one.document["lines"])
    ]


def creditable(connection: sa.Connection, contract: str, number: str, unit: Currency) -> Money:
    """The net amount of an invoice and its corrections that no credit note has given back yet."""
    lines = (
        line
        for one in counted_documents(connection, contract, number)
        for line in one.document["lines"]
        if line.get("corrects") == number or (one.number == number and line.get("corrects") is None)
    )
    return total((Money(Decimal(line["amount"]), unit) for line in lines), unit)


def _store(connection: sa.Connection, invoice: Invoice, number: Number, draft: Draft) -> None:
    same = ("number", "organization", "contract", "kind", "period", "currency", "gross", "issued_ms")
    connection.execute(
        invoices.insert().values(
            {name: getattr(invoice, name) for name in (*same, "content_sha256", "sha256")}
            | {"legal_entity": number.series, "year": number.year, "sequence": number.sequence}
            | {"document": invoice.json.decode()}
        )
    )
    entry = [
        {"number": invoice.number, "position": position, **posting_values(posting, invoice.issued_ms)}
        for position, posting in enumerate(postings_of(draft), start=1)
    ]
    if entry:
        connection.execute(postings.insert(), entry)
    payload = {"number": invoice.number, "organization": invoice.organization, "sha256": invoice.sha256}
    connection.execute(
        outbox.insert().values(
            number=invoice.number,
            event="invoice.final",
            payload=canonical(payload).decode(),
            created_ms=invoice.issued_ms,
        )
    )


def _store_draws(connection: sa.Connection, invoice: Invoice, drawn: Iterable[Draw]) -> None:
    for one in drawn:
        minor = int(one.amount.amount.scaleb(one.amount.currency.exponent))
        values = {"number": invoice.number, "event": 0, "grant_id": one.grant, "minor_units": minor}
        connection.execute(draws.insert().values(values))
    entry = draw_postings(invoice.organization, drawn)
    for position, posting in enumerate(entry, start=1):
        values = {"number": invoice.number, "event": 0, "position": position}
        connection.execute(entries.insert().values(values | posting_values(posting, invoice.issued_ms)))


def posting_values(posting: Posting, booked_ms: int) -> dict[str, Any]:
    """Columns of a posting that both tables of postings have."""
    return {
        "account": posting.account,
        "currency": posting.amount.currency.code,
        "minor_units": posting.minor_units,
        "booked_ms": booked_ms,
    }
