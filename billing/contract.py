"""The contract: committed vCPU capacity for a term, and what happens above it.

The one type so far is the published one for vector databases in the customer's own cloud
(https://docs.zilliz.com/docs/byoc/understand-byoc-billing): a capacity is committed for a term at a price for a
vCPU-year; with on-demand, usage above it is billed in vCPU-minutes at that price / (365*24*60).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Literal

from pydantic import Field, StrictBool, StrictInt

from billing.charges import Charge, charge_findings
from billing.documents import parse_document
from billing.facturx.readiness import facturx_findings
from billing.fields import (
    CountryCode,
    CurrencyCode,
    Day,
    DecimalText,
    Email,
    Id,
    LogoFile,
    MilliVcpu,
    Sha256,
    Text,
    Version,
    ZoneName,
    midnight_ms,
)
from billing.marketplace.terms import marketplace_findings
from billing.prices import VCPU_YEAR
from billing.pricing.discounts import Discount
from billing.pricing.spend import SpendBounds, SpendCommitment
from billing.tax import TaxRule
from billing.terms import CapacityTrueUpTerms, Renewal, term_findings
from kernel.errors import Finding, raise_findings
from kernel.lines import naming_lines
from kernel.settings import Section
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.usage.model import GapPolicy, GapRule

DAYS_IN_A_PRICED_YEAR = 365  # always, in leap years too
MAX_TERM_YEARS = 20
OverageBasis = Literal["instant", "hourly", "pooled-month", "peak", "p95"]
OVERAGE = "overage"  # what a discount calls the line of usage above the commitment


class Party(Section):
    """Who sells or buys, as printed."""

    name: Text = Field(description="legal name")
    address: tuple[Text, ...] = Field(default=(), max_length=8, description="lines of the postal address")
    tax_id: Text | None = Field(default=None, description="tax or VAT number")
    country: CountryCode | None = Field(default=None, description='ISO 3166 code in quotes, such as "DE"')


class Logo(Section):
    """A picture in the vendor's folder of logos. Its hash keeps a document's bytes the same for ever."""

    file: LogoFile = Field(description="name of a PNG or JPEG in the folder `logos` of the deployment")
    sha256: Sha256 = Field(description="of the file, in hex: another picture needs another contract version")


class LegalEntity(Party):
    """The selling company. Invoice numbers are gapless for each id and year."""

    id: Id = Field(description="id of the entity; its upper case begins each invoice number")
    time_zone: ZoneName = Field(default="Etc/UTC", description="IANA zone of issue dates and of the invoice year")
    logo: Logo | None = Field(default=None, description="printed at the top of its documents")
    facturx: StrictBool = Field(default=False, description="true: its PDFs are Factur-X, with EN 16931 XML in them")


class Term(Section):
    """From the midnight that begins `start` to the midnight that begins `end`."""

    start: Day = Field(description="first day")
    end: Day = Field(description="first day after the term")


class CapacityStep(Section):
    """A capacity that holds from `start` until the next step."""

    start: Day = Field(description="first day of this capacity")
    milli_vcpu: MilliVcpu = Field(alias="vcpu", description="vCPU, to three decimals")


class PriceReference(Section):
    """A price of a stored price book, taken on the first day of the term."""

    book: Id = Field(description="id of the price book")
    version: Version = Field(description="its version")
    item: Id = Field(default=VCPU_YEAR, description="the item in it")


class Contract(Section):
    """One version of a contract. Dates are local dates of `time_zone`."""

    contract: Id = Field(description="id of the contract")
    version: Version = Field(default=1, description="1; each amendment is one more and may only add commitment")
    organization: Id = Field(description="the customer's organization")
    legal_entity: LegalEntity = Field(description="the seller")
    customer: Party = Field(description="the buyer")
    currency: CurrencyCode = Field(description="ISO 4217 code")
    send_to: Email | None = Field(default=None, description="e-mail address that its documents are sent to")
    language: Literal["en", "zh"] = Field(
        default="en", description="of its documents: English or Chinese (simplified)"
    )
    time_zone: ZoneName = Field(default="Etc/UTC", description="IANA zone in which months and the term begin")
    term: Term = Field(description="the term of the commitment")
    commitment: tuple[CapacityStep, ...] = Field(
        min_length=1, max_length=400, description="committed vCPU; the first step begins with the term"
    )
    price_per_vcpu_year: DecimalText | None = Field(default=None, description="committed price, or give `price`")
    price: PriceReference | None = Field(default=None, description="committed price from a price book")
    charges: tuple[Charge, ...] = Field(
        default=(), max_length=200, description="what is charged for meters beside the committed capacity"
    )
    spend: SpendBounds | None = Field(
        default=None, description="least and most spend of a calendar month, before discounts and tax"
    )
    spend_commitment: SpendCommitment | None = Field(
        default=None, description="a sum committed for each period of the term, trued up at its end"
    )
    discounts: tuple[Discount, ...] = Field(default=(), max_length=50, description="in the order they are applied")
    on_demand: StrictBool = Field(description="true: usage above the commitment is billed; false: it is refused")
    tax: TaxRule | None = Field(default=None, description="none: no tax is charged")
    overage_basis: OverageBasis = Field(
        default="instant", description="what counts as above the commitment: see docs/pricing.md"
    )
    grace_hours: StrictInt = Field(
        default=72, ge=0, le=2000, description="hours after a month in which late usage is waited for"
    )
    approval: StrictBool = Field(
        default=False, description="true: a monthly draft is approved by its sha256 before it becomes final"
    )
    threshold: DecimalText | None = Field(
        default=None, description="net amount of a running month above which it is invoiced at once; none: never"
    )
    payment_days: StrictInt = Field(default=30, ge=0, le=365, description="days from issue until payment is due")
    gap_policy: GapPolicy = Field(
        default="not-billed", description="what time without data counts as; stated on the invoice in any case"
    )
    gap_hours: StrictInt = Field(
        default=24, ge=1, le=744, description="for how many hours from its beginning a gap is filled by that policy"
    )

    capacity_true_up: CapacityTrueUpTerms | None = Field(
        default=None,
        description="use above the commitment is bought as capacity when a period ends, not by minutes",
    )
    trial: StrictBool = Field(
        default=False, description="true: nothing of the term is billed, neither commitment nor usage above it"
    )
    renewal: Renewal | None = Field(default=None, description="none: the contract ends with its term")
    renews: Id | None = Field(default=None, description="the contract that this one renews")

    @cached_property
    def window(self) -> Window:
        """The term."""
        return Window(midnight_ms(self.term.start, self.time_zone), midnight_ms(self.term.end, self.time_zone))

    @property
    def bills_capacity(self) -> bool:
        """Whether it is about vCPU at all, and not about charges for other meters alone."""
        return self.on_demand or any(step.milli_vcpu for step in self.commitment)

    @property
    def gap_rule(self) -> GapRule:
        """What missing time counts as, and for how long."""
        return GapRule(self.gap_policy, self.gap_hours * HOUR_MS)

    @cached_property
    def timeline(self) -> StepFunction:
        """The committed milli-vCPU over time, zero outside the term."""
        steps = ((midnight_ms(step.start, self.time_zone), step.milli_vcpu) for step in self.commitment)
        return StepFunction.of(steps).within(self.window)


def parse_contract(text: str, source: str) -> Contract:
    """The contract in `text`. Raises InvalidInput."""
    with naming_lines(text, source):
        contract = parse_document(text, source, Contract)
        raise_findings(
            [
                *_term_findings(contract, source),
                *_price_findings(contract, source),
                *charge_findings(contract.charges, contract.term.start, source),
                *marketplace_findings(contract, source),
                *_discount_findings(contract, source),
                *term_findings(contract, source),
                *facturx_findings(contract, source),
            ]
        )
        raise_findings(_edge_findings(contract, source))
    return contract


def years_of(start: date, end: date) -> Fraction:
    """Whole years from `start`, and what is left as days / 365: a leap year's term is one year, not 366/365."""
    years = 0
    while (following := _anniversary(start, years + 1)) <= end:
        years, last = years + 1, following
    since = last if years else start
    return years + Fraction((end - since).days, DAYS_IN_A_PRICED_YEAR)


def _anniversary(start: date, years: int) -> date:
    try:
        return start.replace(year=start.year + years)
    except ValueError:  # 29 February
        return date(start.year + years, 3, 1)


def _term_findings(contract: Contract, source: str) -> Iterator[Finding]:
    term, steps = contract.term, contract.commitment
    if term.end <= term.start:
        yield Finding(source, "term.end", str(term.end), f"a day after term.start, {term.start}")
    if term.end.year - term.start.year > MAX_TERM_YEARS:
        yield Finding(source, "term.end", str(term.end), f"at most {MAX_TERM_YEARS} years after term.start")
    if steps[0].start != term.start:
        yield Finding(source, "commitment[0].start", str(steps[0].start), f"term.start, {term.start}")
    yield from rising_dates(steps, source, "commitment")
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if after.milli_vcpu < before.milli_vcpu:
            allowed = f"at least {Decimal(before.milli_vcpu) / 1000}: a commitment only grows in its term"
            yield Finding(source, f"commitment[{index}].vcpu", str(Decimal(after.milli_vcpu) / 1000), allowed)
        if after.start >= term.end:
            yield Finding(source, f"commitment[{index}].start", str(after.start), f"before term.end, {term.end}")


def _edge_findings(contract: Contract, source: str) -> Iterator[Finding]:
    """Usage is kept by quarters of UTC hours, so a billing period can't begin inside one."""
    year, month = contract.term.start.year, contract.term.start.month
    edges = [contract.term.start, contract.term.end, *(step.start for step in contract.commitment)]
    while (first := date(year, month, 1)) < contract.term.end:
        edges.append(first)
        year, month = year + month // 12, month % 12 + 1
    for day in edges:
        if midnight_ms(day, contract.time_zone) % QUARTER_MS:
            allowed = "a zone whose midnights in the term lie on whole quarters of UTC hours"
            yield Finding(source, "time_zone", f"{contract.time_zone} (on {day})", allowed)
            return


def rising_dates(steps: tuple[CapacityStep, ...], source: str, field: str) -> Iterator[Finding]:
    """Findings for steps that are not in order of their dates, each date once."""
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if after.start <= before.start:
            yield Finding(source, f"{field}[{index}].start", str(after.start), f"after {before.start}")


def _price_findings(contract: Contract, source: str) -> Iterator[Finding]:
    both = contract.price is not None and contract.price_per_vcpu_year is not None
    if both or (contract.price is None and contract.price_per_vcpu_year is None):
        found = "both" if both else "neither"
        yield Finding(source, "price", found, "one of price_per_vcpu_year and price")
    tax = contract.tax
    if tax and tax.rate > 100:
        yield Finding(source, "tax.rate", str(tax.rate), "at most 100")
    if tax and (tax.category == "S") != (tax.rate > 0):
        yield Finding(source, "tax.rate", str(tax.rate), 'more than 0 for category S, "0" for the others')


def _discount_findings(contract: Contract, source: str) -> Iterator[Finding]:
    known = {OVERAGE, *(charge.charge for charge in contract.charges)}
    for index, discount in enumerate(contract.discounts):
        for name in discount.charges:
            if name not in known:
                allowed = "ids of charges of this contract: " + ", ".join(sorted(known))
                yield Finding(source, f"discounts[{index}].charges", name, allowed)
