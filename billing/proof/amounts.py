"""Lines of a document, made again from usage and the contract's text, and compared with those that are stated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from billing.agreed import AgreedContract
from billing.document import render_line
from billing.rating import rate
from billing.rating.commitment import commitment_information
from billing.rating.line import Line, RatingInput
from billing.rating.overage import overage
from billing.spent import spent_before
from kernel.errors import InvalidInput, truncate
from kernel.money import Currency, Money
from kernel.window import Window
from metering.usage.model import MeterUsage, UsageMonth


def currency_of(document: Mapping[str, Any]) -> Currency:
    """As the document states it."""
    return Currency(document["currency"]["code"], int(document["currency"]["decimals"]))


def is_whole(agreed: AgreedContract) -> bool:
    """Whether licence usage and contract are all that a month's lines are made of."""
    contract = agreed.contract
    return not (contract.charges or contract.spend_commitment or contract.capacity_true_up)


def rated_again(
    document: Mapping[str, Any],
    agreed: AgreedContract,
    usage: UsageMonth,
    meters: Mapping[tuple[str, Window], MeterUsage] | None,
    earlier: Iterable[dict[str, Any]] = (),
) -> tuple[Line, ...]:
    """The lines of a month; without the meters of its charges only those of the commitment and its overage.

    `earlier`: the monthly invoices that count for a spend commitment.
    """
    unit = currency_of(document)
    rated = RatingInput(
        contract=agreed.contract,
        price_per_vcpu_year=Fraction(agreed.price_per_vcpu_year),
        currency=unit,
        period=usage.window,
        usage=usage,
        spent_before=spent_before(agreed.contract, usage.window, earlier) or Money.zero(unit),
        charges=agreed.charges,
        meters=meters or {},
    )
    return rate(rated) if meters is not None else (commitment_information(rated), overage(rated))


def check_lines(
    expected: Iterable[Line], stated: Iterable[tuple[int, Mapping[str, Any] | None]], source: str, reason: str
) -> int:
    """How many lines are as they are stated, each with its position from 1. Raises InvalidInput."""
    count = 0
    for line, (position, one) in zip(expected, stated, strict=True):
        rendered = json.loads(json.dumps(render_line(line)))
        if rendered != one:
            where, found, allowed = _difference(rendered, one)
            raise InvalidInput.single(source, f"lines[{position}]{where}", found, f"{allowed}, by {reason}")
        count += 1
    return count


def _difference(expected: Any, found: Any, where: str = "") -> tuple[str, str, str]:
    """Where two JSON values first differ."""
    for key, inner, other in _pairs(expected, found):
        if inner != other:
            return _difference(inner, other, f"{where}{key}")
    return where, truncate(repr(found)), truncate(repr(expected))


def _pairs(expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        yield from ((f".{key}", expected[key], found[key]) for key in sorted(expected))
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        yield from ((f"[{at}]", one, other) for at, (one, other) in enumerate(zip(expected, found, strict=True), 1))
