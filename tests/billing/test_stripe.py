"""Invoices at Stripe: once, to the cent, whatever is lost on the way; against a strict stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import repeat
from typing import Any

import pytest

from billing.exports.stripe import StripeClient, hand_over
from billing.exports.stripe.client import ATTEMPTS, LONGEST_WAIT_SECONDS
from billing.exports.stripe.items import items_of, stripe_amount
from billing.invoices import Invoice
from kernel.errors import Conflict, InvalidInput, Refuse, Retry
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour
from tests.billing.stripe_emulator import KEY, Emulator, Refused, serving

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
    return hand(StripeClient(secret, address, lambda seconds: None), invoice)


def hand(client: StripeClient, invoice: Invoice) -> str:
    return hand_over(client, invoice.document, invoice.sha256, CUSTOMER, 30)


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


@pytest.mark.parametrize("failures", [[], [Refused(503, "api_error"), Refused(409, "idempotency_key_in_use")]])
def test_answers_that_are_lost_make_nothing_twice(
    emulator: Emulator, address: str, invoice: Invoice, failures: list[Refused]
) -> None:
    emulator.lost_answers, emulator.failures = 1, failures
    send(address, invoice)
    assert_once(emulator, invoice)


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class MortalClient(StripeClient):
    """The process may end before a call, or after Stripe took it and before anyone knows."""

    steps: Iterator[None] = field(default_factory=lambda: iter(()))

    def _call(self, *call: Any) -> dict[str, Any]:
        self._step()
        answer = super()._call(*call)
        self._step()
        return answer

    def _step(self) -> None:
        try:
            next(self.steps)
        except StopIteration:
            raise Killed from None


@pytest.mark.parametrize("is_next_day", [False, True])
def test_killed_at_any_step_each_invoice_and_line_is_made_once(
    emulator: Emulator, address: str, invoice: Invoice, is_next_day: bool
) -> None:
    for steps in range(100):
        emulator.invoices.clear()
        emulator.items.clear()
        emulator.forget_keys()
        try:
            hand(MortalClient(KEY, address, steps=repeat(None, steps)), invoice)
        except Killed:
            was_killed = True
        else:
            was_killed = False
        if is_next_day:
            emulator.forget_keys()
        send(address, invoice)
        assert_once(emulator, invoice)
        if not was_killed:
            break
    assert 10 < steps < 99


def test_a_call_too_many_is_made_again_later_and_later(emulator: Emulator, address: str, invoice: Invoice) -> None:
    """Nothing is asked of Stripe before its time, and nothing for ever."""
    waits: list[float] = []
    client = StripeClient(KEY, address, waits.append)
    emulator.failures = [
        Refused(429, "rate_limit"),
        Refused(429, "lock_timeout"),
        Refused(429, "x", Retry_After="7"),
    ]
    hand(client, invoice)
    assert_once(emulator, invoice)
    assert [0.25 <= waits[0] <= 0.5, 0.5 <= waits[1] <= 1, waits[2]] == [True, True, 7]
    waits.clear()
    emulator.failures = [Refused(429, "rate_limit", Retry_After="9999") for _ in range(ATTEMPTS)]
    with pytest.raises(Retry, match="429 rate_limit"):
        hand(client, invoice)
    assert (waits, emulator.failures) == ([LONGEST_WAIT_SECONDS] * (ATTEMPTS - 1), [])


@pytest.mark.parametrize(
    ("status", "told", "error"), [(500, "false", Retry), (400, "false", Refuse), (400, "true", None)]
)
def test_what_stripe_says_of_repeating_is_done(
    emulator: Emulator, address: str, invoice: Invoice, status: int, told: str, error: type[Exception] | None
) -> None:
    emulator.failures = [Refused(status, "api_error", Stripe_Should_Retry=told), Refused(401, "not_reached")]
    with pytest.raises(error or Refuse, match=str(status if error else 401)):
        send(address, invoice)
    assert len(emulator.failures) == (1 if error else 0)


@pytest.mark.parametrize("was_acted", [False, True])
def test_an_answer_of_500_that_is_kept_for_a_day_makes_nothing_twice(
    emulator: Emulator, address: str, invoice: Invoice, was_acted: bool
) -> None:
    """Whether it was acted upon nobody knows: what is there is looked for, and the same key is never given up."""
    emulator.breaks = [was_acted]
    for _ in range(2 if was_acted else 3):
        with pytest.raises(Retry, match="500") if len(emulator.invoices) == 0 else nullcontext():
            send(address, invoice)
    emulator.forget_keys()
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
