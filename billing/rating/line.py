"""An invoice line: an amount and its derivation, made together so that neither can drift from the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction

from billing.charges import AgreedCharges
from billing.contract import Contract
from billing.marketplace.told import Told
from billing.pricing import PricedPart
from billing.rating.fact import Fact
from billing.tax import TaxRule
from kernel.money import Currency, Money
from kernel.window import Window
from metering.usage.model import MeterUsage, UsageMonth


@dataclass(frozen=True, slots=True)
class CapacityPeak:
    """The highest use above the commitment in one period of a capacity true-up."""

    start: date
    end: date  # first day after
    window: Window
    above_milli_vcpu: int
    revision_digest: str = ""  # of the usage that it was taken from
    steps_sha256: str = ""  # of its levels, as a bundle's file
    gaps: tuple[Mapping[str, str | None], ...] | None = None  # of it, where the contract has gaps filled


@dataclass(frozen=True, slots=True)
class RatingInput:
    """What a price model sees: the contract with its price, the billed period, and the usage of it."""

    contract: Contract
    price_per_vcpu_year: Fraction
    currency: Currency
    period: Window
    usage: UsageMonth
    spent_before: Money  # by earlier invoices, in the period of the spend commitment that goes on
    charges: AgreedCharges = field(default_factory=dict)
    meters: Mapping[tuple[str, Window], MeterUsage] = field(
        default_factory=dict
    )  # by charge and part of the period
    capacity_peaks: tuple[CapacityPeak, ...] = ()  # of the term's year so far, when the last of them is due
    marketplace: Mapping[tuple[str, Window], Told] = field(default_factory=dict)  # of charges that AWS bills


@dataclass(frozen=True, slots=True)
class Rate:
    """An exact price for one unit, and in words how it is made."""

    amount: Fraction
    basis: str  # "900.00 USD per vCPU-year / (365*24*60)"


@dataclass(frozen=True, slots=True)
class Derivation:
    """How an amount came to be: `quantity * rate = unrounded`, or the sum of `parts`, rounded half-up once."""

    quantity: Fraction
    unit: str
    rate: Rate | None  # None: the parts have rates of their own
    unrounded: Fraction
    rounding: Fraction  # amount minus unrounded
    facts: tuple[Fact, ...] = ()  # what the quantity was taken from
    days: tuple[tuple[str, Fraction], ...] = ()  # the quantity by local day, days with none left out
    parts: tuple[PricedPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line. An informational line has amount zero and no derivation of money."""

    kind: str
    description: str
    period: Window
    amount: Money
    derivation: Derivation
    tax: TaxRule | None
    informational: bool = False
    notes: tuple[str, ...] = ()
    group: str = ""  # cluster or project, where a charge has a line for each
    corrects: str | None = None  # number of the invoice whose line this corrects


@dataclass(frozen=True, slots=True)
class Priced:
    """A quantity with its rate and its explanation, before it becomes a line."""

    quantity: Fraction
    unit: str
    rate: Rate
    facts: tuple[Fact, ...] = ()
    days: tuple[tuple[str, Fraction], ...] = field(default=())

    def amount(self, unit: Currency) -> tuple[Money, Derivation]:
        """The rounded amount and how it came to be."""
        unrounded = self.quantity * self.rate.amount
        rounded = Money.round_half_up(unrounded, unit)
        rounding = Fraction(rounded.amount) - unrounded
        return rounded, Derivation(self.quantity, self.unit, self.rate, unrounded, rounding, self.facts, self.days)
