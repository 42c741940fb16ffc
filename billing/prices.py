"""The price book: versions that never change, each with prices and the date from which each applies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from pydantic import Field

from billing.documents import parse_document
from billing.fields import CurrencyCode, Day, DecimalText, Id, Text, Version
from billing.pricing import PriceModel
from kernel.errors import Finding, InvalidInput, raise_findings
from kernel.lines import naming_lines
from kernel.settings import Section

VCPU_YEAR = "vcpu-year"


class Price(Section):
    """What an item costs in one currency from `start` until the next start of the same item and currency."""

    item: Id = Field(description="what is priced; `vcpu-year` is one committed vCPU for one year")
    currency: CurrencyCode = Field(description="ISO 4217 code")
    start: Day = Field(description="first day on which a new contract gets this price")
    amount: DecimalText = Field(description="decimal in quotes, in major units of the currency")


class BookedModel(Section):
    """The price model of an item in one currency from `start` until the next start of the same two."""

    item: Id = Field(description="what is priced")
    currency: CurrencyCode = Field(description="ISO 4217 code of all prices in the model")
    start: Day = Field(description="first day on which a charge gets this model")
    model: PriceModel = Field(description="the price model")


class PriceBook(Section):
    """One version of a price book."""

    price_book: Id = Field(description="id of the book")
    version: Version = Field(description="1, then one more with each change; a stored version never changes")
    title: Text | None = Field(default=None, description="for people")
    prices: tuple[Price, ...] = Field(
        default=(), max_length=10_000, description="prices of committed capacity, of this version"
    )
    models: tuple[BookedModel, ...] = Field(
        default=(), max_length=10_000, description="price models of charges, of this version"
    )

    def price_on(self, item: str, currency: str, day: date) -> Price | None:
        """The price of `item` in `currency` that applies on `day`, if there is one."""
        candidates = [
            price
            for price in self.prices
            if price.item == item and price.currency == currency and price.start <= day
        ]
        return max(candidates, key=lambda price: price.start, default=None)

    def model_on(self, item: str, currency: str, day: date) -> PriceModel | None:
        """The model of `item` in `currency` that applies on `day`, if there is one."""
        candidates = [
            booked
            for booked in self.models
            if booked.item == item and booked.currency == currency and booked.start <= day
        ]
        found = max(candidates, key=lambda booked: booked.start, default=None)
        return found.model if found else None


def parse_price_book(text: str, source: str) -> PriceBook:
    """The price book in `text`. Raises InvalidInput."""
    with naming_lines(text, source):
        book = parse_document(text, source, PriceBook)
        if not book.prices and not book.models:
            raise InvalidInput.single(source, "prices", "neither prices nor models", "at least one of them")
        raise_findings([*_overlaps(book.prices, "prices", source), *_overlaps(book.models, "models", source)])
    return book


def _overlaps(entries: Sequence[Price | BookedModel], field: str, source: str) -> Iterator[Finding]:
    seen: dict[tuple[str, str, date], int] = {}
    for index, price in enumerate(entries):
        first = seen.setdefault((price.item, price.currency, price.start), index)
        if first != index:
            found = f"{price.item} in {price.currency} from {price.start} again, as in {field}[{first}]"
            yield Finding(source, f"{field}[{index}].start", found, "one price for an item, currency and date")
