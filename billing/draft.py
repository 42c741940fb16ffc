"""A draft invoice: a pure function of the contract, its price and the usage. No number, no clock.

The draft's canonical JSON (RFC 8785) is its identity: the same inputs give the same bytes. A final invoice is the
draft with `status`, `number` and `issued_at` filled in; see `billing.finalize`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from typing import Any

from billing.agreed import AgreedContract
from billing.charges import ChargePiece, pieces
from billing.corrections import Correction
from billing.document import render_document
from billing.marketplace.told import Told
from billing.rating import rate
from billing.rating.commitment import CommitmentCharge, commitment
from billing.rating.line import CapacityPeak, Line, RatingInput
from billing.rating.true_up import CAPACITY_TRUE_UP
from billing.tax import TaxGroup, tax_groups
from billing.thresholds import THRESHOLD, credit_lines, threshold_lines
from kernel.errors import truncate
from kernel.money import Currency, Money, currency, total
from kernel.window import Window
from metering.usage.model import MeterUsage, UsageMonth

USAGE, COMMITMENT, CREDIT_NOTE = "usage", "commitment", "credit-note"
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")


@dataclass(frozen=True)
class Draft:
    """A document without a number. `period_name` is the month, the first day of a commitment, or the number that a
    credit note is for. `issue` counts the documents of a kind that may be several for one of them.
    """

    agreed: AgreedContract
    kind: str
    period_name: str
    period: Window
    lines: tuple[Line, ...]
    taxes: tuple[TaxGroup, ...]
    usage: UsageMonth | None  # None: a commitment needs none
    meters: tuple[tuple[str, MeterUsage], ...] = ()  # of the charges, each with its id
    corrections: tuple[Correction, ...] = ()
    issue: int | None = None
    reference: str | None = None  # number of the invoice that a credit note is for
    reason: str = ""  # of a credit note
    peaks: tuple[CapacityPeak, ...] = ()  # what a capacity true-up was made of
    marketplace: tuple[Told, ...] = ()  # what AWS Marketplace took of its charges

    @property
    def currency(self) -> Currency:
        return currency(self.agreed.contract.currency)

    @cached_property
    def net(self) -> Money:
        """The exact sum of the lines."""
        return total((line.amount for line in self.lines), self.currency)

    @cached_property
    def tax(self) -> Money:
        return total((group.amount for group in self.taxes), self.currency)

    @cached_property
    def gross(self) -> Money:
        """What is due."""
        return self.net + self.tax

    @property
    def sealed(self) -> bool:
        """No hour that it rests on can still change."""
        return (self.usage is None or self.usage.sealed) and all(usage.sealed for _, usage in self.meters)

    def document(self) -> dict[str, Any]:
        """The invoice as JSON values: strings for all amounts and quantities."""
        return render_document(self)

    def json(self) -> bytes:
        """The canonical JSON of the draft."""
        return self._content

    @property
    def sha256(self) -> str:
        """Of `json()`: what an approval is for."""
        return digest(self._content)

    @cached_property
    def _content(self) -> bytes:
        return canonical(self.document())


@dataclass(frozen=True, slots=True)
class MeasuredPeriod:
    """All usage that a monthly invoice is made of, and what was billed that bears on it."""

    usage: UsageMonth
    meters: Mapping[tuple[str, Window], MeterUsage]  # by charge and part of the period
    spent_before: Money | None = None  # by earlier invoices, in the period of the spend commitment that goes on
    thresholds: tuple[Mapping[str, Any], ...] = ()  # standing threshold invoices of the month
    threshold_issue: int = 1  # which the next one would be
    corrections: tuple[Correction, ...] = ()  # of earlier months, each of a positive sum
    capacity_peaks: tuple[CapacityPeak, ...] = ()  # what a capacity true-up that is due is made of
    marketplace: Mapping[tuple[str, Window], Told] = field(default_factory=dict)  # of charges that AWS bills


@dataclass(frozen=True, slots=True)
class Credit:
    """What a credit note gives back, and why."""

    lines: tuple[Line, ...]  # together negative
    issue: int  # the n-th credit note of its invoice
    reason: str
    correction: Correction | None = None  # of late usage; None: a person wrote it
    usage: UsageMonth | None = None


def needed_meters(agreed: AgreedContract, period: Window) -> Iterator[ChargePiece]:
    """What `MeasuredPeriod.meters` must hold for a period."""
    for charge in agreed.contract.charges:
        yield from pieces(charge, agreed.charges[charge.charge], period, agreed.contract.time_zone)


def usage_draft(agreed: AgreedContract, month: str, period: Window, measured: MeasuredPeriod) -> Draft:
    """The monthly invoice of `period`, the part of the month that lies in the term."""
    unit = currency(agreed.contract.currency)
    lines = (
        *rated_lines(agreed, period, measured),
        *(line for correction in measured.corrections for line in correction.lines),
        *credit_lines(measured.thresholds, period, unit),
    )
    found = _measured_draft(agreed, USAGE, (month, period), lines, measured)
    return replace(found, corrections=measured.corrections)


def rated_lines(agreed: AgreedContract, period: Window, measured: MeasuredPeriod) -> tuple[Line, ...]:
    """What the usage of a period costs: a pure function of contract, prices and usage."""
    contract, usage = agreed.contract, measured.usage
    if usage.window != period or usage.organization != contract.organization:
        raise ValueError(f"usage of {truncate(usage.organization)} in {usage.window} is not of the billed period")
    unit = currency(contract.currency)
    return rate(
        RatingInput(
            contract=contract,
            price_per_vcpu_year=Fraction(agreed.price_per_vcpu_year),
            currency=unit,
            period=period,
            usage=usage,
            spent_before=measured.spent_before or Money.zero(unit),
            charges=agreed.charges,
            meters=measured.meters,
            capacity_peaks=measured.capacity_peaks,
            marketplace=measured.marketplace,
        )
    )


def threshold_draft(agreed: AgreedContract, month: str, period: Window, measured: MeasuredPeriod) -> Draft | None:
    """The invoice of a month that goes on, once what is not billed yet reaches the contract's threshold."""
    threshold, unit = agreed.contract.threshold, currency(agreed.contract.currency)
    if threshold is None:
        return None
    rated = [line for line in rated_lines(agreed, period, measured) if line.kind != CAPACITY_TRUE_UP]
    lines = threshold_lines(rated, measured.thresholds, threshold, period, unit)
    if not lines:
        return None
    found = _measured_draft(agreed, THRESHOLD, (month, period), lines, measured)
    return replace(found, issue=measured.threshold_issue)


def _measured_draft(
    agreed: AgreedContract, kind: str, named: tuple[str, Window], lines: tuple[Line, ...], measured: MeasuredPeriod
) -> Draft:
    month, period = named
    meters = tuple((key[0], measured.meters[key]) for key in sorted(measured.meters))
    taxes = _taxes(lines, currency(agreed.contract.currency))
    return Draft(
        *(agreed, kind, month, period, lines, taxes, measured.usage, meters),
        peaks=measured.capacity_peaks,
        marketplace=tuple(measured.marketplace[key] for key in sorted(measured.marketplace)),
    )


def credit_draft(agreed: AgreedContract, period: Window, number: str, credit: Credit) -> Draft:
    """A credit note for invoice `number`. `agreed` is what the invoice was made from."""
    return Draft(
        agreed=agreed,
        kind=CREDIT_NOTE,
        period_name=number,
        period=period,
        lines=credit.lines,
        taxes=_taxes(credit.lines, currency(agreed.contract.currency)),
        usage=credit.usage,
        corrections=(credit.correction,) if credit.correction else (),
        issue=credit.issue,
        reference=number,
        reason=credit.reason,
    )


def commitment_draft(agreed: AgreedContract, charge: CommitmentCharge) -> Draft:
    """The invoice of a commitment, due when it begins."""
    unit = currency(agreed.contract.currency)
    lines = (commitment(agreed.contract, charge, Fraction(agreed.price_per_vcpu_year), unit),)
    return Draft(agreed, COMMITMENT, charge.start.isoformat(), charge.window, lines, _taxes(lines, unit), None)


def canonical(document: dict[str, Any]) -> bytes:
    """Canonical JSON by RFC 8785 of a document, whose numbers are all strings and whose keys are ASCII.

    For those the standard library's encoder writes the same bytes as RFC 8785 (a test compares them), fifteen times
    faster. Raises ValueError for a number, which it might not.
    """
    text = _ENCODER.encode(document)
    # What is left between the strings, once no quote is escaped: a number there is one of the JSON.
    between = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    if found := _NUMBER.search(between):
        raise ValueError(f"{found[0]} in a document: its numbers are strings, as JSON numbers are floats")
    return text.encode()


def digest(encoded: bytes) -> str:
    """The sha256 of a document's bytes."""
    return sha256(encoded).hexdigest()


def _taxes(lines: tuple[Line, ...], unit: Currency) -> tuple[TaxGroup, ...]:
    return tax_groups(((line.amount, line.tax) for line in lines), unit)
