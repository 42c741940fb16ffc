"""Documents as they stand: their state, and what is still open of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from billing.draft import CREDIT_NOTE
from billing.invoices import Invoice, find_all_issues, load_events, load_invoice, standing
from billing.life import Event, LifeEvent, State, state_after
from billing.models import draws
from kernel.money import Currency, Money, currency, money_of_minor, total

CREDITED = "credited"


@dataclass(frozen=True, slots=True)
class Standing:
    """A document with its state and what is still open of it; negative: the customer has it to its credit."""

    invoice: Invoice
    state: State
    open: Money
    credited: Money  # what its credit notes that are not void gave back: not negative
    due: date | None  # None for a credit note
    events: tuple[LifeEvent, ...]

    @property
    def shown_state(self) -> str:
        """The state, or `credited` for what is settled without a payment, as credit notes gave all of it back."""
        whole = Money(Decimal(self.invoice.gross), self.open.currency)
        paid = any(one.event is Event.PAY for one in self.events)
        by_credit = self.state is State.PAID and not paid and self.credited == whole and self.credited.amount > 0
        return CREDITED if by_credit else self.state.value


def read_standing(connection: sa.Connection, number: str) -> Standing:
    """A document as it stands now. Raises NotFound."""
    return load_standings(connection, [load_invoice(connection, number)])[0]


def load_standings(connection: sa.Connection, documents: Sequence[Invoice]) -> list[Standing]:
    """Many of them, in the order given: a few queries for each 500."""
    happened = load_events(connection, (one.number for one in documents))
    drawn = _drawn(connection, [one.number for one in documents])
    keys = {one.number: (one.contract, CREDIT_NOTE, one.number) for one in documents if one.kind != CREDIT_NOTE}
    notes = find_all_issues(connection, keys.values())
    stand = {one.number for one in standing(connection, (note for each in notes.values() for note in each))}
    found = []
    for one in documents:
        unit, events = currency(one.currency), tuple(happened[one.number])
        state = state_after(one.number, events)
        given = [note for note in notes.get(keys.get(one.number, ("", "", "")), []) if note.number in stand]
        credited = -total((Money(Decimal(note.gross), unit) for note in given), unit)
        due = date.fromisoformat(one.document["payment"]["due_date"]) if one.kind != CREDIT_NOTE else None
        is_open = state is not State.VOID and one.kind != CREDIT_NOTE
        left = _left(one, events, drawn.get(one.number, 0), unit) - credited if is_open else Money.zero(unit)
        found.append(Standing(one, state, left, credited, due, events))
    return found


def _left(invoice: Invoice, happened: Iterable[LifeEvent], drawn: int, unit: Currency) -> Money:
    paid = sum(event.minor_units or 0 for event in happened)
    return Money(Decimal(invoice.gross), unit) - money_of_minor(drawn + paid, unit)


def _drawn(connection: sa.Connection, numbers: Sequence[str]) -> dict[str, int]:
    """Minor units of prepaid credits that each drew and did not give back."""
    found: dict[str, int] = {}
    for start in range(0, len(numbers), 500):
        query = (
            sa.select(draws.c.number, sa.func.sum(draws.c.minor_units))
            .where(draws.c.number.in_(numbers[start : start + 500]))
            .group_by(draws.c.number)
        )
        found |= {number: int(minor_units) for number, minor_units in connection.execute(query)}
    return found
