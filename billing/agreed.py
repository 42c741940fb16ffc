"""A contract with all its prices, wherever they stand: from the stored books, or from the texts on an invoice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing.charges import AgreedCharges, AgreedStep
from billing.contract import Contract, parse_contract
from billing.documents import Snapshot
from billing.marketplace.terms import check_linear
from billing.prices import PriceBook, parse_price_book
from kernel.errors import InvalidInput, NotFound

FindBook = Callable[[str, int], tuple[PriceBook, Snapshot]]  # by id and version; raises NotFound


@dataclass(frozen=True, slots=True)
class AgreedContract:
    """A contract with the prices that it has for its whole term, and where they stand."""

    contract: Contract
    snapshot: Snapshot
    price_per_vcpu_year: Decimal
    price_book: Snapshot | None  # None: the price stands in the contract itself
    charges: AgreedCharges = field(default_factory=dict)
    charge_books: tuple[Snapshot, ...] = ()  # the price books that charges name, each once


def agree(contract: Contract, snapshot: Snapshot, find_book: FindBook, source: str) -> AgreedContract:
    """The contract with its prices. Raises InvalidInput when a price book does not give one."""
    price, price_book = _committed_price(contract, find_book, source)
    charges, books = _charges(contract, find_book, source)
    return AgreedContract(contract, snapshot, price, price_book, charges, books)


def agreed_on(document: Mapping[str, Any]) -> AgreedContract:
    """The contract of an issued document, with the texts that stand on it and no others: prices stay frozen."""
    stated = document["contract"]
    texts = [*(stated.get("charge_books") or ()), *([stated["price_book"]] if stated["price_book"] else ())]
    books = [(parse_price_book(each["snapshot"], "price book"), Snapshot.of(each["snapshot"])) for each in texts]

    def find_book(name: str, version: int) -> tuple[PriceBook, Snapshot]:
        for book, snapshot in books:
            if (book.price_book, book.version) == (name, version):
                return book, snapshot
        raise NotFound(f"the document carries no price book {name} version {version}")

    source = f"contract {stated['id']} version {stated['version']}"
    return agree(parse_contract(stated["snapshot"], source), Snapshot.of(stated["snapshot"]), find_book, source)


def _committed_price(contract: Contract, find_book: FindBook, source: str) -> tuple[Decimal, Snapshot | None]:
    if contract.price_per_vcpu_year is not None:
        return contract.price_per_vcpu_year, None
    reference = contract.price
    if reference is None:
        raise InvalidInput.single(source, "price", "nothing", "one of price_per_vcpu_year and price")
    book, stored = _named(find_book, reference.book, reference.version, source, "price")
    price = book.price_on(reference.item, contract.currency, contract.term.start)
    if price is None:
        allowed = f"an item with a price in {contract.currency} on {contract.term.start} in that book"
        raise InvalidInput.single(source, "price.item", reference.item, allowed)
    return price.amount, stored


def _charges(contract: Contract, find_book: FindBook, source: str) -> tuple[AgreedCharges, tuple[Snapshot, ...]]:
    agreed: dict[str, tuple[AgreedStep, ...]] = {}
    books: dict[str, Snapshot] = {}
    for index, charge in enumerate(contract.charges):
        steps = []
        for number, step in enumerate(charge.steps):
            model, reference = step.model, step.price
            where = f"charges[{index}].steps[{number}].price"
            if reference is not None:
                book, stored = _named(find_book, reference.book, reference.version, source, where)
                books[stored.sha256] = stored
                model = book.model_on(reference.item, contract.currency, step.start)
            if model is None:
                found = reference.item if reference else "nothing"
                allowed = f"an item with a model in {contract.currency} on {step.start} in that book"
                raise InvalidInput.single(source, f"{where}.item", found, allowed)
            check_linear(charge, model, source, f"{where}.item")
            steps.append(AgreedStep(step.start, model, step.uplifts))
        agreed[charge.charge] = tuple(steps)
    return agreed, tuple(books[key] for key in sorted(books))


def _named(find_book: FindBook, name: str, version: int, source: str, where: str) -> tuple[PriceBook, Snapshot]:
    try:
        return find_book(name, version)
    except NotFound as error:
        allowed = "a price book that `byoc price add` has stored"
        raise InvalidInput.single(source, where, f"{name} version {version}", allowed) from error
