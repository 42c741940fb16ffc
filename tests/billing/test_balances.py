"""What is to a customer's credit is paid back or set off, never more than there is; the statement shows it."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pypdf
import pytest
import sqlalchemy as sa

from billing.api import WrongState, invoice_pdf
from billing.balances import Balances
from billing.invoices import Invoice
from billing.life import Event, State
from billing.statement import statement, statement_csv, statement_pdf
from kernel.audit import audit_events
from kernel.errors import Conflict, InvalidInput
from kernel.money import Money, currency
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text
from tests.billing.test_cli import Desk
from tests.billing.test_life import invoiced, usd

NOVEMBER = month("2026-11")


def overpaid(office: Office) -> tuple[Invoice, Invoice]:
    """October is paid, and 40 of its 100 are credited then; November is open."""
    first = invoiced(office)
    office.usage.meters["calls"]["main"][NOVEMBER.start_ms] = Fraction(30)
    office.clock.step_wall(NOVEMBER.length_ms / 1000)
    second = office.run.close(ACME, "2026-11").invoice
    office.receivables.pay(first.number, usd("100.00"), "wire-1")
    office.receivables.credit(first.number, {2: usd("40.00")}, "outage")
    return first, second


def test_what_is_to_a_customers_credit_is_paid_back_once(office: Office) -> None:
    first, second = overpaid(office)
    balances = Balances(office.receivables)
    assert office.receivables.standing(first.number).open == usd("-40.00")
    for wrong, allowed in (
        ("40.01", "at most what is to the customer's credit, 40.00 USD"),
        ("0.00", "more than 0"),
    ):
        with pytest.raises(InvalidInput, match=allowed):
            balances.refund(first.number, usd(wrong), "wire-2")
    with pytest.raises(InvalidInput, match="at most 2 decimals"):
        balances.refund(first.number, usd("1.001"), "wire-2")
    with pytest.raises(InvalidInput, match="more than 0 USD"):
        balances.refund(first.number, Money(Decimal(1), currency("EUR")), "wire-2")
    for _ in range(2):
        left = balances.refund(first.number, usd("15.00"), "wire-2")
        assert (left.state, left.open) == (State.PAID, usd("-25.00"))
    with pytest.raises(Conflict, match="booked with another amount"):
        balances.refund(first.number, usd("16.00"), "wire-2")
    assert balances.refund(first.number, usd("25.00"), "wire-3").open == usd("0.00")
    with pytest.raises(InvalidInput, match="nothing, as nothing is to the customer's credit"):
        balances.refund(first.number, usd("0.01"), "wire-4")
    with pytest.raises(InvalidInput, match="nothing is to the customer's credit"):
        balances.refund(second.number, usd("1.00"), "wire-5")
    assert office.account("bank") == 6000
    assert (office.balance(), office.account(f"receivable:{ACME}")) == (0, 3000)
    query = sa.select(audit_events.c.details).where(audit_events.c.action == "invoice.refund")
    told = office.database.transact(lambda connection: connection.execute(query).scalars().all())
    assert [json.loads(one)["minor_units"] for one in told] == ["-1500", "-2500"]
    assert office.audit.verify() == []


def test_pay_outs_that_race_never_exceed_what_there_is(office: Office) -> None:
    first, second = overpaid(office)
    balances = Balances(office.receivables)

    def give(place: int) -> bool:
        with suppress(InvalidInput):
            if place % 2:
                balances.refund(first.number, usd("15.00"), f"wire-{place}")
            else:
                balances.offset(first.number, second.number, usd("15.00"), f"note-{place}")
            return True
        return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(give, range(6))) == 2
    assert office.receivables.standing(first.number).open == usd("-10.00")
    assert office.balance() == 0


def test_it_pays_another_invoice(office: Office) -> None:
    first, second = overpaid(office)
    balances = Balances(office.receivables)
    with pytest.raises(InvalidInput, match=r"at most what is open, 30\.00 USD"):
        balances.offset(first.number, second.number, usd("35.00"), "agreed")
    for _ in range(2):
        left, paid = balances.offset(first.number, second.number, usd("30.00"), "agreed")
        assert (left.open, paid.open, paid.state) == (usd("-10.00"), usd("0.00"), State.PAID)
    assert [(one.event, one.minor_units) for one in paid.events] == [(Event.OFFSET, 3000), (Event.SETTLE, None)]
    with pytest.raises(Conflict):
        balances.offset(first.number, second.number, usd("1.00"), "agreed")
    with pytest.raises(InvalidInput, match="nothing, as nothing is open"):
        balances.offset(first.number, second.number, usd("1.00"), "more")
    with pytest.raises(WrongState, match="offsets: credit it instead"):
        office.receivables.void(second.number, "mistake")
    assert (office.balance(), office.account(f"offset:{ACME}"), office.account("bank")) == (0, 0, 10_000)


def test_a_credit_pays_only_what_the_same_parties_owe(office: Office) -> None:
    first, _ = overpaid(office)
    note = next(one for one in office.run.invoices(ACME) if one.kind == "credit-note")
    balances = Balances(office.receivables)
    with pytest.raises(InvalidInput, match="another one"):
        balances.offset(first.number, first.number, usd("1.00"), "x")
    with pytest.raises(InvalidInput, match=f"a credit note; allowed: .* to the credit of {first.number}"):
        balances.offset(note.number, first.number, usd("1.00"), "x")
    with pytest.raises(InvalidInput, match="nothing is to the customer's credit"):
        balances.refund(note.number, usd("1.00"), "x")


def test_what_was_paid_back_is_owed_again_when_its_credit_note_is_void(office: Office) -> None:
    first, _ = overpaid(office)
    note = next(one for one in office.run.invoices(ACME) if one.kind == "credit-note")
    Balances(office.receivables).refund(first.number, usd("40.00"), "wire-2")
    office.receivables.void(note.number, "a mistake")
    reopened = office.receivables.standing(first.number)
    assert (reopened.state, reopened.open) == (State.FINAL, usd("40.00"))
    with pytest.raises(WrongState, match="pay-outs"):
        office.receivables.void(first.number, "no")
    assert office.balance() == 0


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", ("Payments, refunds and offsets", "refund", "offset")), ("zh", ("收款、退款与冲抵", "退款", "冲抵"))],
)
def test_the_statement_shows_what_was_moved(small_office: Office, language: str, words: tuple[str, ...]) -> None:
    office = small_office
    first, second = overpaid(office)
    balances = Balances(office.receivables)
    balances.refund(first.number, usd("5.00"), "wire-2")
    balances.offset(first.number, second.number, usd("30.00"), "agreed")
    encoded = statement(ACME, office.receivables.statement(ACME), date(2026, 12, 10))
    said = json.loads(encoded)
    assert [(one["number"], one["event"], one["amount"]) for one in said["movements"]] == [
        (first.number, "pay", "100.00"),
        (first.number, "refund", "-5.00"),
        (first.number, "offset", "-30.00"),
        (second.number, "offset", "30.00"),
    ]
    rows = {row["number"]: row for row in said["documents"]}
    of_first, of_second = rows[first.number], rows[second.number]
    assert [of_first[name] for name in ("paid", "refunded", "offset", "open")] == [
        "100.00",
        "5.00",
        "-30.00",
        "-5.00",
    ]
    assert [of_second[name] for name in ("paid", "refunded", "offset", "open")] == ["0.00", "0.00", "30.00", "0.00"]
    assert statement_csv(encoded).decode().splitlines()[0].endswith(",currency,paid,refunded,offset")
    printed = statement_pdf(json.dumps(said | {"language": language}).encode(), invoice_pdf())
    text = pypdf.PdfReader(io.BytesIO(printed)).pages[0].extract_text()
    for expected in (*words, "wire-2", "-30.00 USD", f"{second.number} agreed"):
        assert expected in text


def test_refund_and_offset_by_command(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.say("contract", "add", desk.file("contract.yaml", contract_text(term=("2026-10-30", "2027-10-30"))))
    desk.seal_term(above=True)
    desk.say("invoice", "finalize", "acme", "2026-10")
    bought, used = "EXAMPLE-EU-2026-000001", "EXAMPLE-EU-2026-000002"
    desk.say("invoice", "pay", used, "1.03", "--reference", "wire-1")
    desk.say("invoice", "credit", used, "--line", "2=1.00", "--reason", "outage")
    said = desk.say("invoice", "refund", used, "0.25", "--reference", "wire-2")
    assert said == f"{used}  paid  open -0.75 USD\n"
    said = desk.say("invoice", "offset", used, bought, "0.75", "--reference", "agreed")
    assert said.splitlines() == [f"{used}  paid  open 0.00 USD", f"{bought}  final  open 14399.25 USD"]
    assert "offset  EXAMPLE-EU-2026-000002 agreed  75 minor units" in desk.say("invoice", "standing", bought)
    with pytest.raises(InvalidInput, match="nothing is to the customer's credit"):
        desk.invoke("invoice", "refund", used, "0.01", "--reference", "wire-3")
