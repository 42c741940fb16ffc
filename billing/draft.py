"""A draft invoice: a pure function of the contract, its price and the usage. No number, no clock.

The draft's canonical JSON (RFC 8785) is its identity: the same inputs give the same bytes. A final invoice is the
draft with `status`, `number` and `issued_at` filled in; see `billing.finalize`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import Any

import rfc8785

from billing.charges import ChargePiece, pieces
from billing.document import render_document
from billing.rating import rate
from billing.rating.commitment import CommitmentCharge, commitment
from billing.rating.line import Line, RatingInput
from billing.store import AgreedContract
from billing.tax import TaxGroup, tax_groups
from kernel.errors import truncate
from kernel.money import Currency, Money, currency, total
from kernel.window import Window
from metering.usage.model import MeterUsage, UsageMonth

USAGE, COMMITMENT = "usage", "commitment"


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice without a number. `period_name` is the month, or the first day of a commitment."""

    agreed: AgreedContract
    kind: str
    period_name: str
    period: Window
    lines: tuple[Line, ...]
    taxes: tuple[TaxGroup, ...]
    usage: UsageMonth | None  # None: a commitment needs none
    meters: tuple[MeterUsage, ...] = ()  # of the charges

    @property
    def currency(self) -> Currency:
        return currency(self.agreed.contract.currency)

    @property
    def net(self) -> Money:
        """The exact sum of the lines."""
        return total((line.amount for line in self.lines), self.currency)

    @property
    def tax(self) -> Money:
        return total((group.amount for group in self.taxes), self.currency)

    @property
    def gross(self) -> Money:
        """What is due."""
        return self.net + self.tax

    @property
    def sealed(self) -> bool:
        """No hour that it rests on can still change."""
        return (self.usage is None or self.usage.sealed) and all(usage.sealed for usage in self.meters)

    def document(self) -> dict[str, Any]:
        """The invoice as JSON values: strings for all amounts and quantities."""
        return render_document(self)

    def json(self) -> bytes:
        """The canonical JSON of the draft."""
        return canonical(self.document())


@dataclass(frozen=True, slots=True)
class MeasuredPeriod:
    """All usage that a monthly invoice is made of."""

    usage: UsageMonth
    meters: Mapping[tuple[str, Window], MeterUsage]  # by charge and part of the period
    spent_before: Money | None = None  # by earlier invoices, in the period of the spend commitment that goes on


def needed_meters(agreed: AgreedContract, period: Window) -> Iterator[ChargePiece]:
    """What `MeasuredPeriod.meters` must hold for a period."""
    for charge in agreed.contract.charges:
        yield from pieces(charge, agreed.charges[charge.charge], period, agreed.contract.time_zone)


def usage_draft(agreed: AgreedContract, month: str, period: Window, measured: MeasuredPeriod) -> Draft:
    """The monthly invoice of `period`, the part of the month that lies in the term."""
    usage = measured.usage
    if usage.window != period or usage.organization != agreed.contract.organization:
        raise ValueError(f"usage of {truncate(usage.organization)} in {usage.window} is not of the billed period")
    contract, unit = agreed.contract, currency(agreed.contract.currency)
    rated = RatingInput(
        contract=contract,
        price_per_vcpu_year=Fraction(agreed.price_per_vcpu_year),
        currency=unit,
        period=period,
        usage=usage,
        spent_before=measured.spent_before or Money.zero(unit),
        charges=agreed.charges,
        meters=measured.meters,
    )
    lines = rate(rated)
    meters = tuple(measured.meters[key] for key in sorted(measured.meters))
    return Draft(agreed, USAGE, month, period, lines, _taxes(lines, unit), usage, meters)


def commitment_draft(agreed: AgreedContract, charge: CommitmentCharge) -> Draft:
    """The invoice of a commitment, due when it begins."""
    unit = currency(agreed.contract.currency)
    lines = (commitment(agreed.contract, charge, Fraction(agreed.price_per_vcpu_year), unit),)
    return Draft(agreed, COMMITMENT, charge.start.isoformat(), charge.window, lines, _taxes(lines, unit), None)


def canonical(document: dict[str, Any]) -> bytes:
    """Canonical JSON by RFC 8785."""
    encoded: bytes = rfc8785.dumps(document)
    return encoded


def digest(encoded: bytes) -> str:
    """The sha256 of a document's bytes."""
    return sha256(encoded).hexdigest()


def _taxes(lines: tuple[Line, ...], unit: Currency) -> tuple[TaxGroup, ...]:
    return tax_groups(((line.amount, line.tax) for line in lines), unit)
