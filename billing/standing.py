"""A document as it stands: its state, and what is still open of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from billing.draft import CREDIT_NOTE
from billing.invoices import Invoice, find_issues, load_events, load_invoice, standing
from billing.life import LifeEvent, State, state_after
from billing.models import draws
from kernel.money import Currency, Money, currency, money_of_minor


@dataclass(frozen=True, slots=True)
class Standing:
    """A document with its state and what is still open of it; negative: the customer has it to its credit."""

    invoice: Invoice
    state: State
    open: Money
    due: date | None  # None for a credit note
    events: tuple[LifeEvent, ...]


def read_standing(connection: sa.Connection, number: str) -> Standing:
    """A document as it stands now. Raises NotFound."""
    invoice = load_invoice(connection, number)
    happened = tuple(load_events(connection, [number])[number])
    unit = currency(invoice.currency)
    due = invoice.document["payment"]["due_date"]
    return Standing(
        invoice=invoice,
        state=state_after(number, happened),
        open=_open(connection, invoice, happened, unit),
        due=None if invoice.kind == CREDIT_NOTE else date.fromisoformat(due),
        events=happened,
    )


def _open(connection: sa.Connection, invoice: Invoice, happened: Iterable[LifeEvent], unit: Currency) -> Money:
    if state_after(invoice.number, happened) is State.VOID or invoice.kind == CREDIT_NOTE:
        return Money.zero(unit)
    drawn = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(draws.c.minor_units), 0)).where(draws.c.number == invoice.number)
    ).scalar_one()
    paid = sum(event.minor_units or 0 for event in happened)
    left = Money(Decimal(invoice.gross), unit) - money_of_minor(int(drawn) + paid, unit)
    notes = find_issues(connection, invoice.contract, CREDIT_NOTE, invoice.number)
    for note in standing(connection, notes):
        left += Money(Decimal(note.gross), unit)
    return left
