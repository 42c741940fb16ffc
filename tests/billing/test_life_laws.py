"""Whatever happens to a document, and in whatever order: what is credited, paid and open adds up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.life import Event, State
from billing.prepaid import GrantTerms
from kernel.errors import Refuse
from kernel.money import Money, currency
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text
from tests.databases import open_migrated
from tests.effort import costly

OCTOBER, USD = month("2026-10"), currency("USD")
CHARGED = """\
charges:
  - charge: calls
    description: Calls
    meter: calls
    steps: [{start: 2026-10-01, model: {kind: per-unit, unit: "1"}}]
tax: {category: S, rate: "20"}
"""
GROSS, LINE = 12_000, 2  # cents; index of the line that charges
Step = tuple[str, int]
STEPS = st.tuples(
    st.sampled_from(["credit", "void note", "pay", "send", "void"]), st.sampled_from([1, 1000, 2000, 6000, 10_000])
)


def cents(count: int) -> Money:
    return Money(Decimal(count).scaleb(-2), USD)


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Office, str]]:
    def issue(prepaid: int) -> tuple[Office, str]:
        folder: Path = tmp_path_factory.mktemp("life")
        office = Office(open_migrated(folder / "byoc.sqlite"))
        office.usage.meters["calls"] = {"main": {OCTOBER.start_ms: Fraction(100)}}
        office.book.add_contract(contract_text(vcpu=0, more=CHARGED), "contract.yaml", "test")
        if prepaid:
            office.prepaid.add("bought", ACME, cents(prepaid), GrantTerms("wire"))
        return office, office.run.close(ACME, "2026-10").invoice.number

    return issue


def play(office: Office, number: str, step: Step, place: int) -> None:
    """One step; what is refused changes nothing, which the sums after it show."""
    name, amount = step
    book = office.receivables
    with suppress(Refuse):
        if name == "credit":
            book.credit(number, {LINE: cents(amount)}, "goodwill")
        elif name == "void note":
            notes = [one.number for one in office.run.invoices(ACME) if one.kind == "credit-note"]
            if notes:
                book.void(notes[amount % len(notes)], "mistake")
        elif name == "pay":
            book.pay(number, cents(amount), f"wire-{place}")
        elif name == "send":
            book.send(number, "billing@example.com")
        else:
            book.void(number, "wrong address")


@costly(50, settings(suppress_health_check=[HealthCheck.function_scoped_fixture]))
@given(steps=st.lists(STEPS, max_size=12), prepaid=st.sampled_from([0, 2000, GROSS]))
def test_what_is_credited_paid_and_open_adds_up(
    issued: Callable[[int], tuple[Office, str]], steps: list[Step], prepaid: int
) -> None:
    office, number = issued(prepaid)
    for place, step in enumerate(steps):
        play(office, number, step, place)
        found = office.receivables.standing(number)
        notes = [
            one.invoice
            for one in office.receivables.statement(ACME)
            if one.invoice.kind == "credit-note" and one.state is not State.VOID
        ]
        credited = -sum(int(Decimal(note.gross) * 100) for note in notes)
        paid = sum(event.minor_units or 0 for event in found.events if event.event is Event.PAY)
        assert credited <= GROSS, "credit notes never exceed the invoice"
        assert office.balance() == 0
        if found.state is State.VOID:
            assert (paid, credited, found.open) == (0, 0, cents(0))
            continue
        assert found.open == cents(GROSS - prepaid - credited - paid)
        if found.open > cents(0):
            assert found.state is not State.PAID, "what is open can be paid"
    office.database.close()
