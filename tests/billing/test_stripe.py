"""Invoices at Stripe: once, to the cent, whatever is lost on the way; against a strict stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from billing.exports.stripe import StripeClient, hand_over
from billing.exports.stripe.items import items_of, stripe_amount
from billing.invoices import Invoice
from kernel.errors import Conflict, InvalidInput, Refuse, Retry
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour
from tests.billing.stripe_emulator import KEY, Emulator, serving

CUSTOMER = "cus_1"


@pytest.fixture
def invoice(small_office: Office) -> Invoice:
    small_office.book.add_contract(contract_text(more='tax: {category: S, rate: "19"}\n'), "contract.yaml", "test")
    small_office.usage.levels = ten_vcpu_above_for_an_hour(month("2026-10"))
    return small_office.run.close(ACME, "2026-10").invoice


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
def address(emulator: Emulator) -> Iterator[str]:
    with serving(emulator) as address:
        yield address


def send(address: str, invoice: Invoice, secret: str = KEY) -> str:
    return hand_over(StripeClient(secret, address), invoice.document, invoice.sha256, CUSTOMER, 30)


def assert_once(emulator: Emulator, invoice: Invoice) -> None:
    [made] = emulator.invoices.values()
    assert (made["status"], made["number"]) == ("open", invoice.number)
    assert sum(int(item["amount"]) for item in emulator.items) == int(Decimal(invoice.gross).scaleb(2))
    assert sorted(item["metadata"]["byoc_line"] for item in emulator.items) == ["2", "tax/S/19"]


def test_an_invoice_is_made_once_and_sums_to_what_is_due(
    emulator: Emulator, address: str, invoice: Invoice
) -> None:
    assert send(address, invoice) == send(address, invoice)
    assert_once(emulator, invoice)
    emulator.forget_keys()
    send(address, invoice)
    assert_once(emulator, invoice)


@pytest.mark.parametrize("failures", [0, 2])
def test_answers_that_are_lost_make_nothing_twice(
    emulator: Emulator, address: str, invoice: Invoice, failures: int
) -> None:
    emulator.lost_answers, emulator.failures = 1, failures
    try:
        send(address, invoice)
    except Retry:
        send(address, invoice)
    assert_once(emulator, invoice)


def test_it_goes_on_a_day_after_it_was_cut(emulator: Emulator, address: str, invoice: Invoice) -> None:
    emulator.surcharge = 1
    with pytest.raises(Conflict, match="124 in minor units, due is 123"):
        send(address, invoice)
    assert emulator.invoices["in_0"]["status"] == "draft", "a wrong sum is not finalized"
    emulator.surcharge = 0
    emulator.forget_keys()
    emulator.items.pop()
    send(address, invoice)
    assert_once(emulator, invoice)


def test_the_stand_in_is_strict(emulator: Emulator, address: str) -> None:
    client = StripeClient(KEY, address)
    form = {"customer": CUSTOMER, "number": "1"}
    made = client.post("/v1/invoices", form, "k")
    assert client.post("/v1/invoices", form, "k") == made
    with pytest.raises(Refuse, match="idempotency_error"):
        client.post("/v1/invoices", form | {"number": "2"}, "k")
    client.post(f"/v1/invoices/{made['id']}/finalize", {}, "f")
    with pytest.raises(Refuse, match="invoice_not_editable"):
        client.post("/v1/invoiceitems", {"invoice": made["id"], "amount": "1"}, "i")


def test_the_key_is_nowhere_to_be_read_and_goes_over_tls(address: str, invoice: Invoice) -> None:
    with pytest.raises(Refuse, match="401") as refused:
        send(address, invoice, "sk_test_wrong_key")
    assert "sk_test" not in str(refused.value)
    assert "sk_test" not in repr(StripeClient(KEY))
    with pytest.raises(InvalidInput, match="https"):
        StripeClient(KEY, "http://api.stripe.com")
    with pytest.raises(InvalidInput, match="not shown"):
        StripeClient("two\nlines")


@pytest.mark.parametrize(
    ("text", "code", "decimals", "minor"),
    [("1.23", "USD", 2, 123), ("-1234", "JPY", 0, -1234), ("5", "ISK", 0, 500), ("1.230", "BHD", 3, 1230)],
)
def test_minor_units_are_stripes(text: str, code: str, decimals: int, minor: int) -> None:
    assert stripe_amount(text, code, decimals) == minor


def test_what_stripe_can_not_take_is_refused(invoice: Invoice) -> None:
    with pytest.raises(Refuse, match="two decimals"):
        stripe_amount("1.234", "BHD", 3)
    document: dict[str, Any] = invoice.document | {"kind": "credit-note"}
    with pytest.raises(Refuse, match="credit note"):
        items_of(document)
    many: dict[str, Any] = invoice.document | {"lines": invoice.document["lines"][1:] * 251}
    with pytest.raises(Refuse, match="250"):
        items_of(many)
