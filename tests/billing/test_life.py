"""The life of documents: grace, approval, payment, void and re-issue, credit notes, prepaid credits, ageing."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from billing.ageing import ageing
from billing.api import GraceNotOver, NotApproved, WrongState
from billing.invoices import Invoice
from billing.life import TRANSITIONS, Event, LifeEvent, Phase, State, phase_of, state_after
from billing.models import draws, entries, events, grants
from billing.prepaid import GrantTerms, load_grants
from kernel.errors import Conflict, InvalidInput, Refuse
from kernel.money import Money, currency
from kernel.window import DAY_MS, HOUR_MS, month
from tests.billing.deals import ACME, Office, contract_text

OCTOBER = month("2026-10")
USD = currency("USD")
CALLS = """\
charges:
  - charge: calls
    description: Calls
    meter: calls
    steps: [{start: 2026-10-01, model: {kind: per-unit, unit: "1"}}]
"""
TAXED = 'tax: {category: S, rate: "20"}\n'


def usd(text: str) -> Money:
    return Money(Decimal(text), USD)


def invoiced(office: Office, calls: str = "100", more: str = "") -> Invoice:
    """October's invoice for that many calls at one dollar."""
    office.usage.meters["calls"] = {"main": {OCTOBER.start_ms: Fraction(calls)}}
    office.book.add_contract(contract_text(vcpu=0, more=CALLS + more), "contract.yaml", "test")
    return office.run.close(ACME, "2026-10").invoice


def test_the_table_is_whole_and_ends() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.VOID] == {}
    for path in itertools.product(Event, repeat=4):
        happened = [LifeEvent(event, 0, "t") for event in path]
        is_possible, is_settled, is_void = True, False, False
        for event in path:
            needs = {Event.REOPEN: is_settled, Event.PAY: not is_settled, Event.SETTLE: not is_settled}
            is_possible &= not is_void and needs.get(event, True)
            is_settled = event is Event.SETTLE or (is_settled and event is not Event.REOPEN)
            is_void = event is Event.VOID
        if is_possible:
            state = state_after("N", happened)
            assert (state is State.VOID) == is_void
            assert (state is State.PAID) == (is_settled and not is_void)
        else:
            with pytest.raises(WrongState, match="possible"):
                state_after("N", happened)


def test_a_period_is_open_then_in_grace_then_due() -> None:
    end = OCTOBER.end_ms
    moments = (end - 1, end, end + 72 * HOUR_MS - 1, end + 72 * HOUR_MS)
    assert [phase_of(OCTOBER, 72, now) for now in moments] == [Phase.OPEN, Phase.GRACE, Phase.GRACE, Phase.DUE]
    assert phase_of(OCTOBER, 0, end) is Phase.DUE


def test_nothing_is_final_before_the_grace_is_over(small_office: Office) -> None:
    text = contract_text().replace("grace_hours: 48", "grace_hours: 72")
    small_office.book.add_contract(text, "contract.yaml", "test")
    assert small_office.run.phase(ACME, "2026-10") is Phase.GRACE
    with pytest.raises(GraceNotOver, match="72 hours after its end"):
        small_office.run.finalize(small_office.run.draft(ACME, "2026-10"))
    small_office.clock.step_wall(DAY_MS / 1000)
    assert small_office.run.finalize(small_office.run.draft(ACME, "2026-10")).period == "2026-10"


def test_an_approval_is_of_exactly_one_draft(office: Office) -> None:
    with pytest.raises(NotApproved):
        invoiced(office, more="approval: true\n")
    office.receivables.approve(office.run.draft(ACME, "2026-10"))
    office.usage.meters["calls"] = {"main": {OCTOBER.start_ms: Fraction(101)}}
    with pytest.raises(NotApproved):
        office.run.close(ACME, "2026-10")
    for _ in range(2):
        office.receivables.approve(office.run.draft(ACME, "2026-10"))
    assert office.run.close(ACME, "2026-10").invoice.gross == "101.00"


def test_payments_add_up_and_settle(office: Office) -> None:
    invoice = invoiced(office, more=TAXED)
    book = office.receivables
    assert book.send(invoice.number, "billing@example.com") is State.SENT
    assert book.pay(invoice.number, usd("20.00"), "wire-1").open == usd("100.00")
    assert book.pay(invoice.number, usd("20.00"), "wire-1").open == usd("100.00"), "the same payment again"
    with pytest.raises(Conflict, match="another amount"):
        book.pay(invoice.number, usd("21.00"), "wire-1")
    for wrong in ("0.00", "100.01", "0.001"):
        with pytest.raises(InvalidInput):
            book.pay(invoice.number, usd(wrong), "wire-2")
    paid = book.pay(invoice.number, usd("100.00"), "wire-2")
    assert (paid.state, paid.open) == (State.PAID, usd("0.00"))
    with pytest.raises(InvalidInput, match="nothing is open"):
        book.pay(invoice.number, usd("1.00"), "wire-3")
    with pytest.raises(WrongState):
        book.void(invoice.number, "mistake")
    assert office.balance() == 0


def test_a_void_keeps_its_number_and_the_period_is_issued_again(office: Office) -> None:
    first = invoiced(office)
    voided = office.receivables.void(first.number, "wrong address")
    assert (voided.state, voided.open) == (State.VOID, usd("0.00"))
    assert office.balance() == 0
    assert office.run.invoice(first.number) == first, "the document itself never changes"
    again = office.run.close(ACME, "2026-10").invoice
    assert (again.number, again.period) == ("EXAMPLE-EU-2026-000002", "2026-10.2")
    assert again.document["period"]["name"] == "2026-10"
    assert again.document["issue"] == "2"
    assert office.run.close(ACME, "2026-10").invoice == again
    with pytest.raises(WrongState):
        office.receivables.void(first.number, "again")


def test_a_credit_note_has_its_own_series_and_never_exceeds_the_invoice(office: Office) -> None:
    invoice = invoiced(office, more=TAXED)
    book = office.receivables
    lines = invoice.document["lines"]
    index = next(place for place, line in enumerate(lines) if line["kind"] == "charge:calls")
    note = book.credit(invoice.number, {index: usd("40.00")}, "outage")
    assert (note.number, note.kind, note.gross) == ("EXAMPLE-EU-2026-CN000001", "credit-note", "-48.00")
    assert note.document["credits"] == invoice.number
    assert book.standing(invoice.number).open == usd("72.00")
    with pytest.raises(Refuse, match=r"left to credit, 60\.00 USD"):
        book.credit(invoice.number, {index: usd("60.01")}, "too much")
    with pytest.raises(InvalidInput):
        book.credit(invoice.number, {0: usd("1.00")}, "an informational line")
    with pytest.raises(
        InvalidInput, match=f"line {index + 1}: found 0.005 USD; allowed: at most 2 decimals in USD"
    ):
        book.credit(invoice.number, {index: usd("0.005")}, "parts of a cent, which nobody can pay")
    last = book.credit(invoice.number, {index: usd("60.00")}, "the rest")
    assert last.number == "EXAMPLE-EU-2026-CN000002"
    assert book.standing(invoice.number).state is State.PAID
    with pytest.raises(WrongState):
        book.credit(note.number, {0: usd("1.00")}, "a credit of a credit")
    assert office.balance() == 0
    assert office.run.close(ACME, "2026-10").credits == (), "what a person credited is not billed again"


def test_an_invoice_with_a_standing_credit_note_is_not_voided(small_office: Office) -> None:
    invoice = invoiced(small_office)
    book = small_office.receivables
    note = book.credit(invoice.number, {2: usd("1.00")}, "goodwill")
    with pytest.raises(WrongState, match=note.number):
        book.void(invoice.number, "no")
    book.void(note.number, "a mistake")
    assert book.standing(invoice.number).open == usd("100.00")
    assert book.void(invoice.number, "now it is possible").state is State.VOID
    assert small_office.balance() == 0


def test_what_a_void_credit_note_had_settled_can_be_paid_again(office: Office) -> None:
    invoice = invoiced(office)
    book = office.receivables
    book.send(invoice.number, "billing@example.com")
    note = book.credit(invoice.number, {2: usd("100.00")}, "all of it")
    assert book.standing(invoice.number).state is State.PAID
    book.void(note.number, "of another customer")
    reopened = book.standing(invoice.number)
    assert (reopened.state, reopened.open) == (State.FINAL, usd("100.00"))
    assert [event.event for event in reopened.events] == [Event.SEND, Event.SETTLE, Event.REOPEN]
    assert reopened.events[-1].reference == note.number
    paid = book.pay(invoice.number, usd("100.00"), "wire-1")
    assert (paid.state, paid.open) == (State.PAID, usd("0.00"))
    assert office.balance() == 0


def test_what_was_settled_without_money_can_be_void(small_office: Office) -> None:
    small_office.prepaid.add("gift", ACME, usd("100.00"), GrantTerms("wire-1"))
    for calls in ("100", "0"):  # prepaid credits paid it; nothing was due
        invoice = invoiced(small_office, calls)
        small_office.receivables.send(invoice.number, "billing@example.com")
        assert small_office.receivables.standing(invoice.number).state is State.PAID
        assert small_office.receivables.void(invoice.number, "wrong address").state is State.VOID
    found = small_office.database.transact(lambda connection: load_grants(connection, ACME, USD))
    assert [f"{grant.balance.amount}" for grant in found] == ["100.00"]
    assert small_office.balance() == 0


def test_prepaid_credits_pay_after_tax_in_their_order_and_come_back_with_a_void(office: Office) -> None:
    office.book.add_contract(contract_text("other"), "other.yaml", "test")
    soon = GrantTerms("wire-1", expires_ms=OCTOBER.end_ms + 30 * DAY_MS)
    gone = GrantTerms("wire-2", expires_ms=OCTOBER.end_ms)
    for _ in range(2):
        office.prepaid.add("late", ACME, usd("100.00"), GrantTerms("wire-3"))
        office.prepaid.add("soon", ACME, usd("50.00"), soon)
        office.prepaid.add("gone", ACME, usd("70.00"), gone)
    with pytest.raises(Conflict):
        office.prepaid.add("late", ACME, usd("100.01"), GrantTerms("wire-3"))
    invoice = invoiced(office, more=TAXED)
    assert invoice.document["payment"]["prepaid"] == [
        {"grant": "soon", "amount": "50.00"},
        {"grant": "late", "amount": "70.00"},
    ]
    assert (invoice.gross, invoice.document["payment"]["due"]) == ("120.00", "0.00")

    def left() -> dict[str, str]:
        found = office.database.transact(lambda connection: load_grants(connection, ACME, USD))
        return {grant.grant: f"{grant.balance.amount}" for grant in found}

    assert left() == {"soon": "0.00", "late": "30.00", "gone": "70.00"}
    office.receivables.void(invoice.number, "mistake")
    assert left() == {"soon": "50.00", "late": "100.00", "gone": "70.00"}
    assert office.balance() == 0


def test_ageing_counts_days_after_the_due_date(small_office: Office) -> None:
    invoiced(small_office)
    documents = small_office.receivables.statement(ACME)
    due = date(2026, 12, 3)

    def bucket(on: date) -> list[int]:
        [found] = ageing(documents, on)
        return [index for index, amount in enumerate(found.buckets) if amount.amount]

    assert documents[0].due == due
    days = (0, 1, 30, 31, 61, 91)
    assert [bucket(date.fromordinal(due.toordinal() + day)) for day in days] == [[0], [1], [1], [2], [3], [4]]


@pytest.mark.parametrize("table", [events, entries, grants, draws])
def test_what_happened_is_append_only(office: Office, table: sa.Table) -> None:
    office.prepaid.add("late", ACME, usd("10.00"), GrantTerms("wire-3"))
    invoice = invoiced(office)
    office.receivables.pay(invoice.number, usd("5.00"), "wire-9")
    column = next(column for column in table.columns if isinstance(column.type, sa.BigInteger))
    changes: list[sa.Executable] = [sa.update(table).values({column.name: 1}), sa.delete(table)]
    for change in changes:
        with pytest.raises(DBAPIError):
            office.database.transact(partial(_execute, change))


def _execute(statement: sa.Executable, connection: sa.Connection) -> None:
    connection.execute(statement)
