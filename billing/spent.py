"""What a spend commitment has been used for so far: the charges of the final invoices in its period."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.contract import OVERAGE, Contract
from billing.fields import midnight_ms
from billing.pricing.spend import commitment_period
from billing.rating.charges import CHARGE
from kernel.clock import to_ms
from kernel.money import Money, currency, total
from kernel.window import Window, parse_zone


def spent_before(contract: Contract, period: Window, documents: Iterable[dict[str, Any]]) -> Money | None:
    """The sum of what `documents`, the contract's final invoices, charged in the commitment's period so far.

    None without a spend commitment.
    """
    if contract.spend_commitment is None:
        return None
    unit = currency(contract.currency)
    last = (period.end - timedelta(milliseconds=1)).astimezone(parse_zone(contract.time_zone)).date()
    start, _ = commitment_period(contract.spend_commitment, contract.term.start, last)
    start_ms = midnight_ms(start, contract.time_zone)
    if start_ms >= period.start_ms:
        return Money.zero(unit)
    reach = Window(start_ms, period.start_ms)
    return total((amount for document in documents for amount in _charged(document, reach, contract)), unit)


def _charged(document: dict[str, Any], reach: Window, contract: Contract) -> Iterable[Money]:
    for line in document["lines"]:
        is_charge = line["kind"] == OVERAGE or line["kind"].startswith(f"{CHARGE}:")
        if is_charge and to_ms(datetime.fromisoformat(line["period"]["start"])) in reach:
            yield Money(Decimal(line["amount"]), currency(contract.currency))
