"""Rows of issued documents, and what the standing documents of a contract say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from billing.corrections import left_to_credit
from billing.draft import canonical
from billing.invoices import Invoice, load_invoices, standing
from billing.ledger import Posting, draw_postings
from billing.models import draws, entries, invoices, outbox, postings, signatures
from billing.numbers import Number
from billing.pricing.credits import Draw
from kernel.crashpoints import crash_point
from kernel.money import Currency, Money, minor_units_of


@dataclass(frozen=True, slots=True)
class Issued:
    """A document with its number and what is booked for it."""

    invoice: Invoice
    number: Number
    postings: tuple[Posting, ...]
    draws: tuple[Draw, ...]
    legal_entity: str
    signed: bytes | None  # `signature.json`


def store_issued(connection: sa.Connection, issued: Sequence[Issued]) -> None:
    """Documents, their signatures, postings, outbox rows and draws of one series."""
    rows = [(invoices, _invoice_row(one)) for one in issued]
    rows += [(signatures, _signature_row(one, one.signed)) for one in issued if one.signed]
    rows += [(postings, row) for one in issued for row in _posting_rows(one)]
    rows += [(outbox, _outbox_row(one.invoice)) for one in issued]
    for one in issued:
        rows += [(draws, row) for row in _draw_rows(one)]
        rows += [(entries, row) for row in _entry_rows(one)]
    for table in (
        invoices,
        signatures,
        postings,
        outbox,
        draws,
        entries,
    ):  # in this order: the others refer to the documents
        ours = [row for into, row in rows if into is table]
        if ours:
            connection.execute(table.insert(), ours)
            crash_point(f"billing.{table.name}-stored")


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
    documents = (one.document for one in counted_documents(connection, contract, number))
    return left_to_credit(number, documents, unit)


def posting_values(posting: Posting, booked_ms: int) -> dict[str, Any]:
    """Columns of a posting that both tables of postings have."""
    return {
        "account": posting.account,
        "currency": posting.amount.currency.code,
        "minor_units": posting.minor_units,
        "booked_ms": booked_ms,
    }


def _invoice_row(one: Issued) -> dict[str, Any]:
    same = ("number", "organization", "contract", "kind", "period", "currency", "gross", "issued_ms")
    number = one.number
    return (
        {name: getattr(one.invoice, name) for name in (*same, "content_sha256", "sha256")}
        | {"legal_entity": number.series, "year": number.year, "sequence": number.sequence}
        | {"document": one.invoice.json.decode()}
    )


def _signature_row(one: Issued, signed: bytes) -> dict[str, Any]:
    return {"number": one.invoice.number, "legal_entity": one.legal_entity, "signed": signed.decode()}


def _posting_rows(one: Issued) -> list[dict[str, Any]]:
    invoice = one.invoice
    return [
        {"number": invoice.number, "position": position, **posting_values(posting, invoice.issued_ms)}
        for position, posting in enumerate(one.postings, start=1)
    ]


def _outbox_row(invoice: Invoice) -> dict[str, Any]:
    payload = {"number": invoice.number, "organization": invoice.organization, "sha256": invoice.sha256}
    return {
        "number": invoice.number,
        "event": "invoice.final",
        "payload": canonical(payload).decode(),
        "created_ms": invoice.issued_ms,
    }


def _draw_rows(one: Issued) -> list[dict[str, Any]]:
    key = {"number": one.invoice.number, "event": 0}
    return [key | {"grant_id": draw.grant, "minor_units": minor_units_of(draw.amount)} for draw in one.draws]


def _entry_rows(one: Issued) -> list[dict[str, Any]]:
    invoice = one.invoice
    return [
        {"number": invoice.number, "event": 0, "position": position, **posting_values(posting, invoice.issued_ms)}
        for position, posting in enumerate(draw_postings(invoice.organization, one.draws), start=1)
    ]
