"""Whatever happens to a document, and in whatever order: what is credited, paid and open adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.balances import Balances
from billing.life import Event, State
from billing.prepaid import GrantTerms
from billing.standing import Standing
from billing.statement import statement
from kernel.errors import Refuse
from kernel.money import Money, currency
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text
from tests.databases import open_migrated
from tests.effort import costly

OCTOBER, NOVEMBER, USD = month("2026-10"), month("2026-11"), currency("USD")
CHARGED = """\
charges:
  - charge: calls
    description: Calls
    meter: calls
    steps: [{start: 2026-10-01, model: {kind: per-unit, unit: "1"}}]
tax: {category: S, rate: "20"}
"""
GROSS, LINE = 12_000, 2  # cents; index of the line that charges
Step = tuple[str, int, int]  # what, cents, which of the two invoices
STEPS = st.tuples(
    st.sampled_from(["credit", "void note", "pay", "send", "void", "refund", "offset"]),
    st.sampled_from([1, 1000, 2000, 6000, 10_000]),
    st.integers(0, 1),
)
OVERPAID: list[Step] = [("pay", 10_000, 0), ("pay", 2000, 0), ("credit", 6000, 0)]  # of twenty steps few lead there


def cents(count: int) -> Money:
    return Money(Decimal(count).scaleb(-2), USD)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Office, tuple[str, str]]]:
    """Two months of equal invoices; prepaid credits pay of the first."""

    def issue(prepaid: int) -> tuple[Office, tuple[str, str]]:
        folder: Path = tmp_path_factory.mktemp("life")
        office = Office(open_migrated(folder / "byoc.sqlite"))
        calls = {OCTOBER.start_ms: Fraction(100), NOVEMBER.start_ms: Fraction(100)}
        office.usage.meters["calls"] = {"main": calls}
        office.book.add_contract(contract_text(vcpu=0, more=CHARGED), "contract.yaml", "test")
        if prepaid:
            office.prepaid.add("bought", ACME, cents(prepaid), GrantTerms("wire"))
        first = office.run.close(ACME, "2026-10").invoice.number
        office.clock.step_wall(NOVEMBER.length_ms / 1000)
        return office, (first, office.run.close(ACME, "2026-11").invoice.number)

    return issue


def play(office: Office, numbers: tuple[str, str], step: Step, place: int) -> None:
    """One step; what is refused changes nothing, which the sums after it show."""
    name, amount, which = step
    number, other = numbers[which], numbers[1 - which]
    book, balances = office.receivables, Balances(office.receivables)
    with suppress(Refuse):
        if name == "credit":
            book.credit(number, {LINE: cents(amount)}, "goodwill")
        elif name == "void note":
            notes = [one.number for one in office.run.invoices(ACME) if one.kind == "credit-note"]
            if notes:
                book.void(notes[amount % len(notes)], "mistake")
        elif name == "pay":
            book.pay(number, cents(amount), f"wire-{place}")
        elif name == "refund":
            balances.refund(number, cents(amount), f"wire-{place}")
        elif name == "offset":
            balances.offset(number, other, cents(amount), f"note-{place}")
        elif name == "send":
            book.send(number, "billing@example.com")
        else:
            book.void(number, "wrong address")


def moved(found: Standing, event: Event) -> int:
    return sum(one.minor_units or 0 for one in found.events if one.event is event)


@costly(50, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(
    first=st.sampled_from([[], OVERPAID]),
    steps=st.lists(STEPS, max_size=12),
    prepaid=st.sampled_from([0, 2000, GROSS]),
)
def test_what_is_credited_paid_given_back_and_open_adds_up(
    issued: Callable[[int], tuple[Office, tuple[str, str]]], first: list[Step], steps: list[Step], prepaid: int
) -> None:
    office, numbers = issued(prepaid)
    for place, step in enumerate(first + steps):
        before = {number: office.receivables.standing(number).open for number in numbers}
        play(office, numbers, step, place)
        stands = {one.invoice.number: one for one in office.receivables.statement(ACME)}
        found = [stands[number] for number in numbers]
        for one, drawn in zip(found, (prepaid, 0), strict=True):
            check(one, list(stands.values()), drawn)
            if step[0] in {"refund", "offset"} and one.open != before[one.invoice.number]:
                assert abs(one.open.amount) < abs(before[one.invoice.number].amount), "never more than there was"
        assert sum(moved(one, Event.OFFSET) for one in found) == 0, "what one gave, the other got"
        assert office.balance() == 0
        assert office.account(f"offset:{ACME}") == 0
        assert office.account(f"receivable:{ACME}") == sum(int(one.open.amount * 100) for one in found)
        assert office.account("bank") == sum(moved(one, Event.PAY) + moved(one, Event.REFUND) for one in found)
        said = json.loads(statement(ACME, stands.values(), date(2026, 12, 10)))
        told = sum(Decimal(row["amount"]) for row in said["movements"])
        assert told * 100 == sum(event.minor_units or 0 for one in found for event in one.events)
    office.database.close()


def check(found: Standing, stands: list[Standing], drawn: int) -> None:
    """One invoice: what is open is its gross less all that was drawn, credited and moved."""
    notes = [
        one.invoice
        for one in stands
        if one.state is not State.VOID and one.invoice.document.get("credits") == found.invoice.number
    ]
    credited = -sum(int(Decimal(note.gross) * 100) for note in notes)
    paid, given, offset = (moved(found, event) for event in (Event.PAY, Event.REFUND, Event.OFFSET))
    assert credited <= GROSS, "credit notes never exceed the invoice"
    assert given <= 0
    if found.state is State.VOID:
        assert (paid, given, offset, credited, found.open) == (0, 0, 0, 0, cents(0))
        return
    assert found.open == cents(GROSS - drawn - credited - paid - given - offset)
    if found.open > cents(0):
        assert found.state is not State.PAID, "what is open can be paid"
