"""What the lines of one issued document are in FOCUS: a row of Cost and Usage and one of Invoice Detail each.

A line of a later correction keeps its own service period as charge period, and has the billing period of the
document that bills it: that of the invoice's month, or the month in which a credit note was issued.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.contract import OVERAGE
from billing.corrections import CORRECTION, CREDIT, THRESHOLD_CREDIT
from billing.document import utc_ms, utc_text
from billing.draft import CREDIT_NOTE
from billing.rating.adjusting import DISCOUNT, MAXIMUM, MINIMUM, TRUE_UP
from billing.rating.marketplace import MARKETPLACE
from billing.rating.true_up import CAPACITY_TRUE_UP
from kernel.clock import from_ms
from kernel.quantity import render_fraction
from kernel.window import Window, month, month_name

Row = dict[str, str]
PLACES = 14  # of quantities; FOCUS fixes none
COMMITMENT, INFORMATION, THRESHOLD, TAX = "commitment", "commitment-information", "threshold", "tax"
_UNITS = {"vCPU-minute": "vCPU-Minutes", "vCPU-hour": "vCPU-Hours", "vCPU-year": "vCPU-Years"}


@dataclass(frozen=True, slots=True)
class Service:
    """How the vendor's service is called in every row."""

    name: str
    category: str = "Databases"
    subcategory: str = "Other (Databases)"


@dataclass(frozen=True, slots=True)
class Charge:
    """One line, or one tax, of a document."""

    detail: str  # of this line alone, `NUMBER/3`
    kind: str
    category: str  # Usage, Purchase, Tax or Adjustment
    is_correction: bool
    corrects: str | None  # number
    description: str
    period: Window
    billed: Decimal
    quantity: Fraction | None
    unit: str


def billing_month(document: Mapping[str, Any]) -> str:
    """`YYYY-MM` of the billing period, in the contract's time zone; of a credit note, when it was issued."""
    begin = document["issued_at"] if document["kind"] == CREDIT_NOTE else document["period"]["start"]
    return month_name(from_ms(utc_ms(begin)), document["period"]["time_zone"])


def charges_on(document: Mapping[str, Any]) -> Iterator[Charge]:
    """The lines, then the taxes: what a document's totals are the sum of."""
    number, is_note = document["number"], document["kind"] == CREDIT_NOTE
    for index, line in enumerate(document["lines"], start=1):
        corrects = line.get("corrects") or (document["credits"] if is_note else None)
        quantity = line["derivation"]["quantity"]
        # Quantities of a threshold invoice stand again on the final one; those of a correction are of the whole;
        # what AWS Marketplace billed stands in AWS's own rows.
        is_aws = line["kind"].startswith(f"{MARKETPLACE}:")
        is_own = corrects is None and document["kind"] != THRESHOLD and not is_aws
        yield Charge(
            detail=f"{number}/{index}",
            kind=line["kind"],
            category=_category(line["kind"]),
            is_correction=corrects is not None,
            corrects=corrects,
            description=line["description"],
            period=window_of(line["period"]),
            billed=Decimal(line["amount"]),
            quantity=Fraction(quantity["exact"]) if is_own and quantity["unit"] != "sum" else None,
            unit=_UNITS.get(quantity["unit"], quantity["unit"]),
        )
    for tax in document["taxes"]:
        yield Charge(
            detail=f"{number}/tax/{tax['category']}/{tax['rate']}",
            kind=TAX,
            category="Tax",
            is_correction=is_note,
            corrects=document["credits"] if is_note else None,
            description=f"{tax['name']} {tax['rate']} % ({tax['category']})",
            period=window_of(document["period"]),
            billed=Decimal(tax["amount"]),
            quantity=None,
            unit="",
        )


def cost_row(document: Mapping[str, Any], charge: Charge, effective: Decimal, service: Service) -> Row:
    """The row of Cost and Usage 1.4. `ContractApplied` is left empty."""
    is_covered = charge.kind == INFORMATION
    quantity = "" if charge.quantity is None else quantity_text(charge.quantity)
    consumed = quantity if charge.category == "Usage" and not is_covered else ""
    at_list = effective if is_covered else charge.billed
    return _shared(document, charge) | {
        "BillingAccountName": document["customer"]["name"],
        "ChargeClass": "Correction" if charge.is_correction else "",
        "ChargeDescription": charge.description,
        "ChargeFrequency": _frequency(charge),
        "ChargePeriodEnd": focus_time(charge.period.end_ms),
        "ChargePeriodStart": focus_time(charge.period.start_ms),
        "ConsumedQuantity": consumed,
        "ConsumedUnit": charge.unit if consumed else "",
        "ContractApplied": "",
        "ContractedCost": f"{at_list:f}",
        "EffectiveCost": f"{effective:f}",
        "HostProviderName": "",
        "ListCost": f"{at_list:f}",
        "PricingCategory": _pricing(charge),
        "PricingQuantity": quantity,
        "PricingUnit": charge.unit if quantity else "",
        "ServiceCategory": service.category,
        "ServiceName": service.name,
        "ServiceProviderName": document["seller"]["name"],
        "ServiceSubcategory": service.subcategory,
        "x_ContractId": document["contract"]["id"],
        "x_LineKind": charge.kind,
        "x_ReferenceInvoiceId": charge.corrects or "",
    }


def detail_row(document: Mapping[str, Any], charge: Charge, *, is_void: bool, payment_days: int) -> Row:
    """The row of Invoice Detail 1.4. Without another invoice to refer to, it refers to itself: null is refused."""
    issued = focus_time(utc_ms(document["issued_at"]))
    is_note = document["kind"] == CREDIT_NOTE
    return _shared(document, charge) | {
        "InvoiceDetailCreated": issued,
        "InvoiceDetailDescription": charge.description,
        "InvoiceDetailGrain": "",
        "InvoiceDetailLastUpdated": issued,
        "InvoiceIssueDate": issued,
        "InvoiceIssueStatus": "Voided" if is_void else "Issued",
        "PaymentDueDate": "" if is_note else f"{document['payment']['due_date']}T00:00:00Z",
        "PaymentTerms": "Credited" if is_note else f"Net {payment_days}",
        "ReferenceInvoiceId": charge.corrects or document["number"],
    }


def focus_time(moment_ms: int) -> str:
    """A moment as FOCUS writes it: `2026-10-01T00:00:00Z`."""
    return utc_text(moment_ms).replace(".000Z", "Z")


def quantity_text(value: Fraction) -> str:
    """A decimal without an exponent, rounded only past 14 places."""
    text = render_fraction(value, PLACES)
    return text.rstrip("0").rstrip(".") if "." in text else text


def window_of(period: Mapping[str, str]) -> Window:
    """The window of a `period` of a document."""
    return Window(utc_ms(period["start"]), utc_ms(period["end"]))


def _shared(document: Mapping[str, Any], charge: Charge) -> Row:
    billing = month(billing_month(document), document["period"]["time_zone"])
    return {
        "BilledCost": f"{charge.billed:f}",
        "BillingAccountId": document["customer"]["organization"],
        "BillingCurrency": document["currency"]["code"],
        "BillingPeriodEnd": focus_time(billing.end_ms),
        "BillingPeriodStart": focus_time(billing.start_ms),
        "ChargeCategory": charge.category,
        "InvoiceDetailId": charge.detail,
        "InvoiceId": document["number"],
        "InvoiceIssuerName": document["seller"]["name"],
    }


def _category(kind: str) -> str:
    original = kind.removeprefix(f"{CORRECTION}:").removeprefix(f"{CREDIT}:")
    if original in {COMMITMENT, TRUE_UP, CAPACITY_TRUE_UP}:
        return "Purchase"
    if original in {MINIMUM, MAXIMUM} or original.startswith(f"{DISCOUNT}:"):
        return "Adjustment"
    return "Usage"


def _frequency(charge: Charge) -> str:
    if charge.category == "Usage":
        return "Usage-Based"
    return "One-Time"


def _pricing(charge: Charge) -> str:
    if charge.kind in {INFORMATION, COMMITMENT}:
        return "Committed"
    is_priced = charge.category == "Usage" and not charge.kind.startswith(THRESHOLD_CREDIT)
    return "Standard" if is_priced and (charge.kind == OVERAGE or charge.quantity is not None) else ""
