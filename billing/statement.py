"""A statement of account: what was issued to a customer, what of it is open, and overdue since when. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from billing.ageing import AGE_NAMES, ageing
from billing.draft import canonical
from billing.life import Event
from billing.pdf import InvoicePdf
from billing.standing import Standing
from billing.tables import ColumnType, render_csv, render_parquet
from kernel.clock import from_ms
from kernel.errors import NotFound
from kernel.ids import OrganizationId
from kernel.money import Money, money_of_minor

SCHEMA = "byoc/statement/1"
MOVED = ("paid", "refunded", "offset")  # money that came, went back, and was set off (negative: against another)
COLUMNS = ("number", "kind", "period", "issue_date", "due_date", "state", "gross", "open", "currency", *MOVED)
_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(("issue_date", "due_date"), "day"),
    **dict.fromkeys(("gross", "open", *MOVED), "amount"),
}


def statement(organization: OrganizationId, documents: Iterable[Standing], on: date) -> bytes:
    """Canonical JSON of all documents as they stand now, oldest first, and what is open by days overdue on a day.

    Names and language are those of the newest document. Raises NotFound when nothing was issued.
    """
    ordered = sorted(documents, key=lambda one: (one.invoice.issued_ms, one.invoice.number))
    if not ordered:
        raise NotFound(f"nothing was issued to {organization}")
    newest = ordered[-1].invoice.document
    return canonical(
        {
            "schema": SCHEMA,
            "date": on.isoformat(),
            "organization": organization,
            "language": newest.get("language", "en"),
            "seller": newest["seller"],
            "customer": newest["customer"],
            "documents": [_row(one) for one in ordered],
            "movements": sorted(
                (row for one in ordered for row in _movements(one)), key=lambda row: (row["date"], row["number"])
            ),
            "ageing": [
                {
                    "currency": each.total.currency.code,
                    "open": [
                        {"days": name, "amount": f"{amount.amount:f}"}
                        for name, amount in zip(AGE_NAMES, each.buckets, strict=True)
                    ],
                    "total": f"{each.total.amount:f}",
                }
                for each in ageing(ordered, on)
            ],
        }
    )


def statement_csv(encoded: bytes) -> bytes:
    """Its documents as CSV."""
    return render_csv(json.loads(encoded)["documents"], COLUMNS)


def statement_parquet(encoded: bytes) -> bytes:
    """The same as Parquet: amounts are decimals, days are dates."""
    return render_parquet(json.loads(encoded)["documents"], COLUMNS, _TYPES)


def statement_pdf(encoded: bytes, renderer: InvoicePdf) -> bytes:
    """It as a PDF whose date is the statement's day: the same bytes each time."""
    said: dict[str, Any] = json.loads(encoded)
    pinned = datetime.combine(date.fromisoformat(said["date"]), time(), UTC)
    return renderer.compile(
        "statement.typ", {"document": encoded.decode(), **renderer.logo(said["seller"])}, pinned
    )


def _movements(one: Standing) -> Iterator[dict[str, str]]:
    """What was paid, paid back and set off; negative what left the document."""
    for event in one.events:
        if event.minor_units:
            yield {
                "date": from_ms(event.at_ms).date().isoformat(),
                "number": one.invoice.number,
                "event": event.event.value,
                "reference": event.reference,
                "amount": f"{money_of_minor(event.minor_units, one.open.currency).amount:f}",
                "currency": one.invoice.currency,
            }


def _moved(one: Standing, event: Event) -> Money:
    unit = one.open.currency
    moved = (each.minor_units or 0 for each in one.events if each.event is event)
    return money_of_minor(sum(moved), unit)


def _row(one: Standing) -> dict[str, str]:
    invoice = one.invoice
    return {
        "number": invoice.number,
        "kind": invoice.kind,
        "period": invoice.period,
        "issue_date": invoice.document["issue_date"],
        "due_date": one.due.isoformat() if one.due else "",
        "state": one.state.value,
        "gross": invoice.gross,
        "open": f"{one.open.amount:f}",
        "currency": invoice.currency,
        "paid": f"{_moved(one, Event.PAY).amount:f}",
        "refunded": f"{-_moved(one, Event.REFUND).amount:f}",
        "offset": f"{_moved(one, Event.OFFSET).amount:f}",
    }
