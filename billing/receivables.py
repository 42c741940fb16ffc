"""What happens to a document after it was issued: sent, paid, credited, void; and what customers owe.

Each change is one transaction: event, ledger entry, given-back credits and audit row together. The document itself
never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from billing.agreed import agreed_on
from billing.corrections import CREDIT, billed_lines
from billing.document import utc_ms
from billing.draft import CREDIT_NOTE, Credit, Draft, credit_draft
from billing.errors import WrongState
from billing.finalize import Finalizer
from billing.invoices import Invoice, find_issues, load_invoice, load_invoices
from billing.issuing import counted_documents, posting_values
from billing.ledger import Posting, payment_postings
from billing.life import Event, LifeEvent, State, follow
from billing.models import approvals, draws, entries, events, outbox, postings
from billing.prepared import prepare
from billing.proof.statement import InvoiceSigner
from billing.standing import Standing, load_standings, read_standing
from billing.store import insert_new, lock_organization
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput
from kernel.ids import OrganizationId
from kernel.money import Money, currency, minor_units_of, money_of_minor, refuse_parts
from kernel.window import Window


@dataclass(frozen=True, slots=True)
class Receivables:
    """Methods block; call them from a worker thread."""

    database: Database
    clock: Clock
    audit: AuditLog
    actor: str = "billing"
    signer: InvoiceSigner | None = None  # signs credit notes

    def approve(self, draft: Draft) -> str:
        """Approve exactly this draft; returns its sha256. Again changes nothing."""
        content, contract = draft.sha256, draft.agreed.contract.contract

        def write(connection: sa.Connection) -> None:
            known = sa.select(approvals.c.actor).where(approvals.c.content_sha256 == content)
            if connection.execute(known).first() is None:
                row = {"contract": contract, "period": draft.period_name, "actor": self.actor}
                insert_new(
                    connection,
                    approvals,
                    {"content_sha256": content, **row, "approved_ms": self.clock.now_ms()},
                )
                crash_point("billing.approved")
                self.audit.append(connection, self.actor, "invoice.approve", contract, {"sha256": content})

        self.database.transact(write)
        return content

    def send(self, number: str, to: str) -> State:
        """Note that a document was handed over: it waits no longer in the outbox. Raises NotFound, WrongState."""

        def write(connection: sa.Connection) -> State:
            now_ms = self.clock.now_ms()
            event = LifeEvent(Event.SEND, now_ms, self.actor, reference=to)
            found = self.append(connection, self.locked(connection, number), event, ())
            waits = (outbox.c.number == number) & outbox.c.sent_ms.is_(None)
            connection.execute(outbox.update().where(waits).values(sent_ms=now_ms))
            return found.state

        return self.database.transact(write)

    def pay(self, number: str, amount: Money, reference: str) -> Standing:
        """Book a payment; the same reference again changes nothing. Raises InvalidInput, WrongState, NotFound.

        More than is open is refused: buy prepaid credits with the rest.
        """

        refuse_parts(amount, number)

        def write(connection: sa.Connection) -> Standing:
            found = self.locked(connection, number)
            paid = [one for one in found.events if one.event is Event.PAY and one.reference == reference]
            if paid:
                if paid[0].minor_units != minor_units_of(amount):
                    raise Conflict(f"{number}: payment {reference} is booked with another amount")
                return found
            if found.invoice.kind == CREDIT_NOTE:
                raise WrongState(f"{number} is a credit note: it is not paid, it lowers what is open")
            if amount.currency != found.open.currency or not Money.zero(amount.currency) < amount:
                raise InvalidInput.single(number, "amount", str(amount), f"more than 0 {found.open.currency.code}")
            if found.open < amount:
                most = (
                    f"at most what is open, {found.open}"
                    if found.open.amount > 0
                    else "nothing, as nothing is open"
                )
                raise InvalidInput.single(number, "amount", str(amount), most)
            event = LifeEvent(Event.PAY, self.clock.now_ms(), self.actor, minor_units_of(amount), reference)
            entry = payment_postings(found.invoice.organization, amount)
            return self.append(connection, found, event, entry)

        return self.database.transact(write)

    def void(self, number: str, reason: str) -> Standing:
        """Make a document void: it keeps its number, its entry is reversed, and drawn credits are given back.

        Its period may be issued again; what a void credit note had settled can be paid again. Raises WrongState
        when money was paid, back or forth, or other documents build on it.
        """

        def write(connection: sa.Connection) -> Standing:
            found = self.locked(connection, number)
            follow(number, found.state, Event.VOID)
            if any(one.minor_units for one in found.events):
                raise WrongState(f"{number} has payments, pay-outs or offsets: credit it instead")
            _refuse_built_upon(connection, found.invoice)
            event = LifeEvent(Event.VOID, self.clock.now_ms(), self.actor, reference=reason)
            position = len(found.events) + 1
            _give_back(connection, number, position)
            voided = self.append(connection, found, event, _reversal(connection, found.invoice))
            if found.invoice.kind == CREDIT_NOTE:
                self._reopen_if_something_is_open(connection, found.invoice.document["credits"], number)
            return voided

        return self.database.transact(write)

    def credit(self, number: str, amounts: dict[int, Money], reason: str) -> Invoice:
        """Issue a credit note for lines of an invoice, by their index from 0. `amounts` are positive.

        Raises InvalidInput for an unknown line or more than the line has left, WrongState for a void invoice.
        """
        for index, amount in amounts.items():
            refuse_parts(amount, number, f"line {index + 1}")

        def write(connection: sa.Connection) -> Invoice:
            found = self.locked(connection, number)
            document, invoice = found.invoice.document, found.invoice
            if found.state is State.VOID or invoice.kind == CREDIT_NOTE:
                raise WrongState(f"{number} is {found.state}, a {invoice.kind}: there is nothing to credit")
            before = find_issues(connection, invoice.contract, CREDIT_NOTE, number)
            lines = tuple(
                replace(line, kind=f"{CREDIT}:{line.kind}", corrects=number)
                for line in billed_lines(document, amounts, f"{number}")
            )
            period = Window(utc_ms(document["period"]["start"]), utc_ms(document["period"]["end"]))
            credit = Credit(lines, len(before) + 1, reason)
            draft = credit_draft(agreed_on(document), period, number, credit)
            finalizer = Finalizer(self.clock, self.audit, self.actor, self.signer)
            issued = finalizer.finalize(connection, prepare(draft))
            self._settle_if_nothing_is_open(connection, read_standing(connection, number))
            return issued

        return self.database.transact(write)

    def standing(self, number: str) -> Standing:
        """A document with its state and what is open. Raises NotFound."""
        return self.database.transact(lambda connection: read_standing(connection, number))

    def statement(self, organization: OrganizationId | None = None) -> list[Standing]:
        """All documents (of one organization), in order of their series."""
        return self.database.read(
            lambda connection: load_standings(connection, load_invoices(connection, organization))
        )

    def locked(self, connection: sa.Connection, number: str) -> Standing:
        """A document as it stands, until the transaction ends. Raises NotFound."""
        lock_organization(connection, load_invoice(connection, number).organization)
        return read_standing(connection, number)

    def append(
        self, connection: sa.Connection, found: Standing, event: LifeEvent, entry: Sequence[Posting]
    ) -> Standing:
        """One more event of a locked document, with its ledger entry. Raises WrongState."""
        number, position = found.invoice.number, len(found.events) + 1
        follow(number, found.state, event.event)
        row = {"event": event.event.value, "at_ms": event.at_ms, "actor": event.actor, "reference": event.reference}
        connection.execute(
            events.insert().values(number=number, position=position, minor_units=event.minor_units, **row)
        )
        for index, posting in enumerate(entry, start=1):
            values = {"number": number, "event": position, "position": index}
            connection.execute(entries.insert().values(values | posting_values(posting, event.at_ms)))
        details = {"reference": event.reference, "minor_units": str(event.minor_units or 0)}
        self.audit.append(connection, self.actor, f"invoice.{event.event}", number, details)
        return self._settle_if_nothing_is_open(connection, read_standing(connection, number))

    def _settle_if_nothing_is_open(self, connection: sa.Connection, found: Standing) -> Standing:
        is_open = Money.zero(found.open.currency) < found.open
        can_settle = found.state in {State.FINAL, State.SENT} and found.invoice.kind != CREDIT_NOTE
        if is_open or not can_settle:
            return found
        return self.append(connection, found, LifeEvent(Event.SETTLE, self.clock.now_ms(), self.actor), ())

    def _reopen_if_something_is_open(self, connection: sa.Connection, number: str, note: str) -> None:
        found = read_standing(connection, number)
        if found.state is State.PAID and Money.zero(found.open.currency) < found.open:
            reopened = LifeEvent(Event.REOPEN, self.clock.now_ms(), self.actor, reference=note)
            self.append(connection, found, reopened, ())


def _refuse_built_upon(connection: sa.Connection, invoice: Invoice) -> None:
    others = [one.number for one in counted_documents(connection, invoice.contract, invoice.number)]
    above = [number for number in others if number != invoice.number]
    if above:
        raise WrongState(f"{invoice.number} is corrected by {', '.join(above)}: void or credit those first")


def _give_back(connection: sa.Connection, number: str, position: int) -> None:
    taken = connection.execute(sa.select(draws).where(draws.c.number == number, draws.c.event == 0)).all()
    for row in taken:
        values = {"number": number, "event": position, "grant_id": row.grant_id, "minor_units": -row.minor_units}
        connection.execute(draws.insert().values(values))


def _reversal(connection: sa.Connection, invoice: Invoice) -> list[Posting]:
    unit = currency(invoice.currency)
    booked: list[Any] = []
    for table in (postings, entries):
        query = sa.select(table.c.account, table.c.minor_units).where(table.c.number == invoice.number)
        booked += connection.execute(query).all()
    return [Posting(row.account, money_of_minor(-row.minor_units, unit)) for row in booked]
