"""From draft to final: number, document, postings and outbox row in one transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from billing.document import utc_text
from billing.draft import Draft, canonical, digest
from billing.errors import UsageNotSealed
from billing.ledger import postings_of
from billing.models import counters, invoices, outbox, postings
from billing.store import insert_new, load_contract, lock_organization
from kernel.audit import AuditLog
from kernel.clock import Clock, from_ms
from kernel.errors import Conflict, NotFound
from kernel.ids import OrganizationId
from kernel.window import parse_zone


@dataclass(frozen=True, slots=True)
class Invoice:
    """A final invoice as it is stored. `json` is the canonical document and never changes."""

    number: str
    organization: OrganizationId
    contract: str
    kind: str  # usage or commitment
    period: str  # YYYY-MM, or the first day of a commitment
    currency: str
    gross: str  # decimal string, major units
    issued_ms: int
    content_sha256: str  # of the draft it was made from
    sha256: str  # of `json`
    json: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The parsed JSON."""
        parsed: dict[str, Any] = json.loads(self.json)
        return parsed


@dataclass(frozen=True, slots=True)
class Finalizer:
    """Makes drafts final."""

    clock: Clock
    audit: AuditLog
    actor: str

    def finalize(self, connection: sa.Connection, draft: Draft) -> Invoice:
        """The final invoice of the draft's contract, kind and period: the stored one if there is one.

        Raises UsageNotSealed; Conflict when the contract was amended since the draft was made.
        """
        lock_organization(connection, OrganizationId(draft.agreed.contract.organization))
        stored = find_invoice(connection, draft.agreed.contract.contract, draft.kind, draft.period_name)
        if stored is not None:
            return stored
        if not draft.sealed:
            message = f"usage of {draft.agreed.contract.organization} in {draft.period_name} is not sealed yet"
            raise UsageNotSealed(f"{message}; wait until its hours are closed, then finalize again")
        newest = load_contract(connection, draft.agreed.contract.contract)
        if newest.snapshot != draft.agreed.snapshot:
            raise Conflict(f"contract {newest.contract.contract} was amended meanwhile; draft and finalize again")
        return self._issue(connection, draft)

    def _issue(self, connection: sa.Connection, draft: Draft) -> Invoice:
        number = take_number(connection, draft, self.clock.now_ms())
        document = draft.document() | {
            "status": "final",
            "number": number.text,
            "issued_at": utc_text(number.issued_ms),
            "issue_date": number.issue_date,
        }
        encoded = canonical(document)
        contract = draft.agreed.contract
        invoice = Invoice(
            number=number.text,
            organization=OrganizationId(contract.organization),
            contract=contract.contract,
            kind=draft.kind,
            period=draft.period_name,
            currency=draft.currency.code,
            gross=f"{draft.gross.amount:f}",
            issued_ms=number.issued_ms,
            content_sha256=digest(draft.json()),
            sha256=digest(encoded),
            json=encoded,
        )
        _store(connection, invoice, number, draft)
        details = {"sha256": invoice.sha256, "gross": invoice.gross, "currency": invoice.currency}
        self.audit.append(connection, self.actor, "invoice.finalize", invoice.number, details)
        return invoice


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a legal entity's series of one year."""

    legal_entity: str
    year: int
    sequence: int
    issued_ms: int
    issue_date: str  # in the legal entity's zone

    @property
    def text(self) -> str:
        return f"{self.legal_entity.upper()}-{self.year}-{self.sequence:06d}"


def take_number(connection: sa.Connection, draft: Draft, now_ms: int) -> Number:
    """The next number of the series; its row stays locked until the transaction ends, so no number is skipped.

    Within a series the issue times never decrease, whatever the clocks of several processes say.
    """
    entity = draft.agreed.contract.legal_entity
    zone = parse_zone(entity.time_zone)
    year = from_ms(now_ms).astimezone(zone).year
    key = {"legal_entity": entity.id, "year": year}
    insert_new(connection, counters, {**key, "last_sequence": 0, "last_issued_ms": 0})
    row = connection.execute(sa.select(counters).filter_by(**key).with_for_update()).one()
    sequence, issued_ms = row.last_sequence + 1, max(now_ms, row.last_issued_ms)
    values = {"last_sequence": sequence, "last_issued_ms": issued_ms}
    connection.execute(sa.update(counters).filter_by(**key).values(values))
    issue_date = from_ms(issued_ms).astimezone(zone).date().isoformat()
    return Number(entity.id, year, sequence, issued_ms, issue_date)


def find_invoice(connection: sa.Connection, contract: str, kind: str, period: str) -> Invoice | None:
    """The final invoice of a contract's period, if it was issued."""
    query = sa.select(invoices).filter_by(contract=contract, kind=kind, period=period)
    row = connection.execute(query).first()
    return _invoice(row) if row else None


def load_invoice(connection: sa.Connection, number: str) -> Invoice:
    """The final invoice of that number. Raises NotFound."""
    row = connection.execute(sa.select(invoices).where(invoices.c.number == number)).first()
    if row is None:
        raise NotFound(f"there is no invoice {number!r}; `byoc invoice list` shows what was issued")
    return _invoice(row)


def load_invoices(connection: sa.Connection, organization: OrganizationId | None = None) -> list[Invoice]:
    """All final invoices (of one organization), in order of their series."""
    query = sa.select(invoices).order_by(invoices.c.legal_entity, invoices.c.year, invoices.c.sequence)
    if organization is not None:
        query = query.where(invoices.c.organization == organization)
    return [_invoice(row) for row in connection.execute(query)]


def _store(connection: sa.Connection, invoice: Invoice, number: Number, draft: Draft) -> None:
    same = ("number", "organization", "contract", "kind", "period", "currency", "gross", "issued_ms")
    connection.execute(
        invoices.insert().values(
            {name: getattr(invoice, name) for name in (*same, "content_sha256", "sha256")}
            | {"legal_entity": number.legal_entity, "year": number.year, "sequence": number.sequence}
            | {"document": invoice.json.decode()}
        )
    )
    entry = [
        {
            "number": invoice.number,
            "position": position,
            "account": posting.account,
            "currency": invoice.currency,
            "minor_units": posting.minor_units,
            "booked_ms": invoice.issued_ms,
        }
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


def _invoice(row: Any) -> Invoice:
    return Invoice(
        number=row.number,
        organization=OrganizationId(row.organization),
        contract=row.contract,
        kind=row.kind,
        period=row.period,
        currency=row.currency,
        gross=row.gross,
        issued_ms=row.issued_ms,
        content_sha256=row.content_sha256,
        sha256=row.sha256,
        json=row.document.encode(),
    )
