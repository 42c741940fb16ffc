"""A document's lines and taxes as Stripe's invoice items. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from billing.document import utc_ms
from billing.draft import CREDIT_NOTE
from kernel.errors import Refuse

MOST_ITEMS = 250  # docs.stripe.com/api/invoiceitems/create
# docs.stripe.com/currencies, special cases: two decimals although ISO 4217 has none.
_TWO_DECIMALS = frozenset({"ISK", "UGX"})


@dataclass(frozen=True, slots=True)
class Item:
    """One invoice item. `amount` is in Stripe's minor units."""

    line: str  # of the document, such as `3` or `tax/S/19`
    amount: int
    description: str
    start_s: int
    end_s: int


def items_of(document: Mapping[str, Any]) -> list[Item]:
    """What sums to the amount due. Raises Refuse for a document that Stripe can't take."""
    number = document["number"]
    if document["kind"] == CREDIT_NOTE:
        raise Refuse(f"{number} is a credit note: Stripe issues its own against the invoice that it has")
    items = list(_items(document))
    if len(items) > MOST_ITEMS:
        raise Refuse(f"{number} has {len(items)} amounts, Stripe takes {MOST_ITEMS} on an invoice")
    return items


def stripe_amount(text: str, code: str, decimals: int) -> int:
    """A decimal of major units in Stripe's minor units. Raises Refuse for a third decimal that is not zero."""
    places = 2 if code in _TWO_DECIMALS else decimals
    amount = int(Decimal(text).scaleb(places))
    # docs.stripe.com/currencies, three-decimal currencies: the last digit must be 0.
    if decimals == 3 and amount % 10:
        raise Refuse(f"{text} {code}: Stripe takes two decimals of this currency")
    return amount


def due_of(document: Mapping[str, Any]) -> int:
    """What the customer is to pay, in Stripe's minor units."""
    return _amount(document, document["payment"]["due"])


def _items(document: Mapping[str, Any]) -> Iterator[Item]:
    def item(line: str, amount: int, description: str, period: Mapping[str, str]) -> Item:
        return Item(line, amount, description, utc_ms(period["start"]) // 1000, utc_ms(period["end"]) // 1000)

    for index, line in enumerate(document["lines"], start=1):
        amount = _amount(document, line["amount"])
        if amount:
            yield item(str(index), amount, line["description"], line["period"])
    for tax in document["taxes"]:
        amount = _amount(document, tax["amount"])
        if amount:
            name = f"tax/{tax['category']}/{tax['rate']}"
            yield item(name, amount, f"{tax['name']} {tax['rate']} %", document["period"])
    drawn = due_of(document) - _amount(document, document["totals"]["gross"])
    if drawn:
        yield item("prepaid", drawn, "Prepaid credits", document["period"])


def _amount(document: Mapping[str, Any], text: str) -> int:
    return stripe_amount(text, document["currency"]["code"], int(document["currency"]["decimals"]))
