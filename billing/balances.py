"""What is to a customer's credit: paid back, or set off against another invoice.

An invoice that was paid and then credited has less than nothing open. That is what can be given away, and no more;
each pay-out and offset is one transaction of events, ledger entries that sum to zero, and audit rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from billing.draft import CREDIT_NOTE
from billing.invoices import Invoice, load_invoice
from billing.ledger import offset_postings, refund_postings
from billing.life import Event, LifeEvent
from billing.receivables import Receivables
from billing.standing import Standing
from kernel.errors import Conflict, InvalidInput
from kernel.money import Money, minor_units_of, refuse_parts


@dataclass(frozen=True, slots=True)
class Balances:
    """Methods block; call them from a worker thread. The same reference again changes nothing."""

    book: Receivables

    def refund(self, number: str, amount: Money, reference: str) -> Standing:
        """Book that money was paid back, at most what is to the customer's credit. Raises InvalidInput, NotFound.

        Raises Conflict for a reference that is booked with another amount.
        """
        refuse_parts(amount, number)

        def write(connection: sa.Connection) -> Standing:
            found = self.book.locked(connection, number)
            if _is_booked(found, Event.REFUND, -amount, reference):
                return found
            _refuse_above(found, amount, -found.open, "to the customer's credit")
            entry = refund_postings(found.invoice.organization, amount)
            return self.book.append(connection, found, self._event(Event.REFUND, -amount, reference), entry)

        return self.book.database.transact(write)

    def offset(self, number: str, against: str, amount: Money, reference: str) -> tuple[Standing, Standing]:
        """Pay `against` with what `number` has to the customer's credit; both as they stand then.

        Both are of one customer, seller and currency. Raises InvalidInput, NotFound, Conflict, WrongState.
        """
        refuse_parts(amount, number)
        given, taken = f"{against} {reference}", f"{number} {reference}"

        def write(connection: sa.Connection) -> tuple[Standing, Standing]:
            found = self.book.locked(connection, number)
            _refuse_strangers(found.invoice, load_invoice(connection, against))
            other = self.book.locked(connection, against)
            if _is_booked(found, Event.OFFSET, -amount, given):
                return found, other
            _refuse_above(found, amount, -found.open, "to the customer's credit")
            _refuse_above(other, amount, other.open, "open")
            owner = found.invoice.organization
            entry, counter = offset_postings(owner, amount), offset_postings(owner, -amount)
            left = self.book.append(connection, found, self._event(Event.OFFSET, -amount, given), entry)
            paid = self.book.append(connection, other, self._event(Event.OFFSET, amount, taken), counter)
            return left, paid

        return self.book.database.transact(write)

    def _event(self, event: Event, amount: Money, reference: str) -> LifeEvent:
        return LifeEvent(event, self.book.clock.now_ms(), self.book.actor, minor_units_of(amount), reference)


def _is_booked(found: Standing, event: Event, amount: Money, reference: str) -> bool:
    known = [one for one in found.events if (one.event, one.reference) == (event, reference)]
    if known and known[0].minor_units != minor_units_of(amount):
        raise Conflict(f"{found.invoice.number}: {event} {reference} is booked with another amount")
    return bool(known)


def _refuse_above(found: Standing, amount: Money, most: Money, what: str) -> None:
    number, unit = found.invoice.number, found.open.currency
    if amount.currency != unit or not Money.zero(unit) < amount:
        raise InvalidInput.single(number, "amount", str(amount), f"more than 0 {unit.code}")
    if most < amount:
        allowed = f"at most what is {what}, {most}" if Money.zero(unit) < most else f"nothing, as nothing is {what}"
        raise InvalidInput.single(number, "amount", str(amount), allowed)


def _refuse_strangers(one: Invoice, other: Invoice) -> None:
    if CREDIT_NOTE in {one.kind, other.kind}:
        note = one if one.kind == CREDIT_NOTE else other
        allowed = f"invoices: its amount is to the credit of {note.document['credits']}"
        raise InvalidInput.single("offset", "document", f"{note.number}, a credit note", allowed)
    for name, mine, theirs in (
        ("document", one.number, other.number),
        ("organization", one.organization, other.organization),
        ("currency", one.currency, other.currency),
        ("seller", one.document["seller"]["id"], other.document["seller"]["id"]),
    ):
        if (mine == theirs) == (name == "document"):
            allowed = "another one" if name == "document" else f"{mine}, as {one.number}"
            raise InvalidInput.single("offset", f"{name} of {other.number}", theirs, allowed)
