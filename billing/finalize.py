"""From draft to final: number, document, postings and outbox row in one transaction, for one draft or hundreds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from billing.document import utc_text
from billing.draft import COMMITMENT, USAGE, canonical
from billing.errors import GraceNotOver, NotApproved, QuantityUnknown, UsageNotSealed
from billing.invoices import Invoice, find_all_issues, state_of
from billing.issuing import Issued, counted_documents, creditable, store_issued
from billing.life import Phase, State, phase_of
from billing.marketplace.store import count_rows
from billing.models import approvals, contracts
from billing.numbers import CREDIT_NOTES, Number, take_numbers
from billing.prepaid import Wallets
from billing.prepared import Prepared
from billing.pricing.credits import Draw
from billing.proof.statement import InvoiceSigner, statement_of
from billing.store import lock_organizations
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import ByocError, Conflict, Refuse
from kernel.money import Money

Outcome = Invoice | ByocError


@dataclass(frozen=True, slots=True)
class Finalizer:
    """Makes drafts final."""

    clock: Clock
    audit: AuditLog
    actor: str
    signer: InvoiceSigner | None = None  # None: where no authority vouches for a key, documents are not signed

    def finalize(self, connection: sa.Connection, draft: Prepared) -> Invoice:
        """The final document of the draft's contract, kind and period: the stored one if one stands.

        A period whose document is void is issued again. Raises UsageNotSealed, GraceNotOver, QuantityUnknown,
        NotApproved; Conflict when the contract, what AWS Marketplace took, or what a correction counted as billed,
        has changed since the draft was made.
        """
        [found] = self.finalize_all(connection, [draft])
        if isinstance(found, ByocError):
            raise found
        return found

    def finalize_all(self, connection: sa.Connection, drafts: Sequence[Prepared]) -> list[Outcome]:
        """The same for many, all in the caller's transaction; what one is refused for stands in its place.

        Drafts of one period of a contract must not be in one call twice.
        """
        lock_organizations(connection, {draft.organization for draft in drafts})
        crash_point("billing.organizations-locked")
        issues = find_all_issues(connection, [(draft.contract, draft.kind, draft.period_name) for draft in drafts])
        newest = _newest_contracts(connection, {draft.contract for draft in drafts})
        outcomes: dict[int, Outcome] = {}
        due: list[tuple[int, Prepared, int]] = []
        for place, draft in enumerate(drafts):
            before = issues[draft.contract, draft.kind, draft.period_name]
            try:
                stored = _standing_issue(connection, draft, before)
                if stored is None:
                    self._check(connection, draft, newest.get(draft.contract))
                    due.append((place, draft, _next_issue(draft, before)))
                else:
                    outcomes[place] = stored
            except ByocError as refused:
                outcomes[place] = refused
        outcomes |= self._issue_all(connection, due)
        return [outcomes[place] for place in range(len(drafts))]

    def _check(self, connection: sa.Connection, draft: Prepared, newest_sha256: str | None) -> None:
        if draft.kind == USAGE:
            self._check_period(connection, draft)
        if draft.kind in {USAGE, COMMITMENT} and newest_sha256 != draft.contract_sha256:
            raise Conflict(f"contract {draft.contract} was amended meanwhile; draft and finalize again")
        for (
            number,
            counted,
        ) in draft.corrections:
            stands = counted_documents(connection, draft.contract, number)
            if tuple(one.number for one in stands) != counted:
                raise Conflict(f"{number} was corrected meanwhile; draft and finalize again")
        for subscription, window, rows in draft.told:
            if count_rows(connection, subscription, window) != rows:
                message = f"more is known by now of what AWS Marketplace took of {subscription}"
                raise Conflict(f"{message}; draft and finalize again")
        if draft.reference is not None:
            left = creditable(connection, draft.contract, draft.reference, draft.net.currency)
            if left + draft.net < Money.zero(draft.net.currency):
                raise Refuse(f"{draft.reference}: {-draft.net} is more than what is left to credit, {left}")

    def _check_period(self, connection: sa.Connection, draft: Prepared) -> None:
        phase = phase_of(draft.period, draft.grace_hours, self.clock.now_ms())
        if phase is not Phase.DUE:
            until = f"{draft.grace_hours} hours after its end"
            raise GraceNotOver(f"{draft.period_name} of {draft.organization} is {phase}: final from {until}")
        if not draft.sealed:
            message = f"usage of {draft.organization} in {draft.period_name} is not sealed yet"
            raise UsageNotSealed(f"{message}; wait until its hours are closed, then finalize again")
        if draft.contradicted:
            charge, hour_ms = draft.contradicted[0]
            message = f"AWS Marketplace has another quantity than it was told of {len(draft.contradicted)} hours"
            command = f"byoc marketplace resolve {draft.organization} {charge} {utc_text(hour_ms)}"
            raise QuantityUnknown(f"{message}: look into its report, then `{command} --taken N --reason TEXT`")
        if draft.needs_approval and not _is_approved(connection, draft.content_sha256):
            message = f"{draft.contract} asks for approval of draft {draft.content_sha256}"
            raise NotApproved(f"{message}: `byoc invoice approve {draft.organization} {draft.period_name}`")

    def _issue_all(self, connection: sa.Connection, due: list[tuple[int, Prepared, int]]) -> dict[int, Invoice]:
        """Numbers by series, in the order given, then all rows."""
        found: dict[int, Invoice] = {}
        wallets = Wallets(connection, (draft.organization for _, draft, _ in due))
        for series, same in groupby(sorted(due, key=lambda one: _series(one[1])), key=lambda one: _series(one[1])):
            ours = list(same)
            entity = ours[0][1].legal_entity
            numbers = take_numbers(connection, entity, series, self.clock.now_ms(), len(ours))
            crash_point("billing.numbers-taken")
            issued = [
                self._issued(wallets, draft, number, issue)
                for (_, draft, issue), number in zip(ours, numbers, strict=True)
            ]
            crash_point("billing.signed")
            store_issued(connection, issued)
            recorded = [(one.invoice.number, _recorded(one.invoice)) for one in issued]
            self.audit.append_all(connection, self.actor, "invoice.finalize", recorded)
            crash_point("billing.audited")
            found |= {place: one.invoice for (place, _, _), one in zip(ours, issued, strict=True)}
        return found

    def _issued(self, wallets: Wallets, draft: Prepared, number: Number, issue: int) -> Issued:
        drawn: tuple[Draw, ...] = ()
        due = draft.gross
        if not draft.is_credit_note:
            drawn, due = wallets.draw(draft.organization, due, number.issued_ms)
        document = _document(draft, number, issue, drawn, due)
        encoded = canonical(document)
        is_first = issue == 1 and draft.issue is None
        invoice = Invoice(
            number=number.text,
            organization=draft.organization,
            contract=draft.contract,
            kind=draft.kind,
            period=draft.period_name if is_first else f"{draft.period_name}.{issue}",
            currency=due.currency.code,
            gross=f"{draft.gross.amount:f}",
            issued_ms=number.issued_ms,
            content_sha256=draft.content_sha256,
            sha256=sha256(encoded).hexdigest(),
            json=encoded,
        )
        signed = self._signed(draft, document, encoded)
        return Issued(invoice, number, draft.postings, drawn, draft.legal_entity.id, signed)

    def _signed(self, draft: Prepared, document: dict[str, Any], encoded: bytes) -> bytes | None:
        if self.signer is None:
            return None
        return self.signer.sign(statement_of(document, encoded, draft.files, document["issued_at"]))


def _document(draft: Prepared, number: Number, issue: int, drawn: Iterable[Draw], due: Money) -> dict[str, Any]:
    """The draft's content with what its number brings."""
    due_date = date.fromisoformat(number.issue_date) + timedelta(days=draft.payment_days)
    prepaid = [{"grant": one.grant, "amount": f"{one.amount.amount:f}"} for one in drawn]
    content: dict[str, Any] = json.loads(draft.content)
    return content | {
        "status": "final",
        "number": number.text,
        "issued_at": utc_text(number.issued_ms),
        "issue_date": number.issue_date,
        **({"issue": str(issue)} if issue > 1 and draft.issue is None else {}),
        "payment": {"prepaid": prepaid, "due": f"{due.amount:f}", "due_date": due_date.isoformat()},
    }


def _recorded(invoice: Invoice) -> dict[str, str]:
    return {"sha256": invoice.sha256, "gross": invoice.gross, "currency": invoice.currency}


def _series(draft: Prepared) -> str:
    return draft.legal_entity.id + (CREDIT_NOTES if draft.is_credit_note else "")


def _next_issue(draft: Prepared, before: list[Invoice]) -> int:
    if draft.issue is not None and len(before) + 1 != draft.issue:
        raise Conflict(f"{draft.kind} {draft.period_name}: another was issued meanwhile; draft again")
    return len(before) + 1


def _standing_issue(connection: sa.Connection, draft: Prepared, before: list[Invoice]) -> Invoice | None:
    if draft.issue is not None:  # credit notes and threshold invoices: the n-th, by content
        same = [one for one in before if one.content_sha256 == draft.content_sha256]
        return same[-1] if same else None
    if before and state_of(connection, before[-1].number) is not State.VOID:
        return before[-1]
    return None


def _is_approved(connection: sa.Connection, content_sha256: str) -> bool:
    query = sa.select(approvals.c.actor).where(approvals.c.content_sha256 == content_sha256)
    return connection.execute(query).first() is not None


def _newest_contracts(connection: sa.Connection, wanted: set[str]) -> dict[str, str]:
    """The sha256 of the newest version of each contract."""
    found: dict[str, str] = {}
    ordered = sorted(wanted)
    for start in range(0, len(ordered), 500):
        part = ordered[start : start + 500]
        query = (
            sa.select(contracts.c.contract, contracts.c.sha256)
            .where(contracts.c.contract.in_(part))
            .order_by(contracts.c.contract, contracts.c.version)
        )
        found |= {row.contract: row.sha256 for row in connection.execute(query)}  # the last of each is the newest
    return found
