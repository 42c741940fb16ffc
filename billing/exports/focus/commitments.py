"""Commitments of contracts as FOCUS sees them, and the spreading of what was paid for them over the term."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.agreed import AgreedContract
from billing.exports.focus.charges import COMMITMENT, Row, focus_time, quantity_text, window_of
from billing.rating.commitment import charges_of, commitment
from kernel.money import Money, currency
from kernel.window import Window

_INTERVALS = {"month": "Monthly", "quarter": "Quarterly", "year": "Annual"}


@dataclass(frozen=True, slots=True)
class Known:
    """A contract as its newest document states it, and when documents of it were first and last issued."""

    agreed: AgreedContract
    currency: str
    first_ms: int
    last_ms: int


def commitment_rows(known: Known, as_of_ms: int) -> Iterator[Row]:
    """A row for each step of committed capacity, and one for a commitment of spend."""
    contract = known.agreed.contract
    price, unit = Fraction(known.agreed.price_per_vcpu_year), currency(known.currency)
    for charge in charges_of(contract):
        line = commitment(contract, charge, price, unit)
        yield _shared(known, charge.window, as_of_ms) | {
            "ContractCommitmentCategory": "Usage",
            "ContractCommitmentCost": f"{line.amount.amount:f}",
            "ContractCommitmentDescription": line.description,
            "ContractCommitmentDurationType": duration(charge.start, contract.term.end),
            "ContractCommitmentFulfillmentInterval": "Full Period",
            "ContractCommitmentId": commitment_id(contract.contract, charge.start),
            "ContractCommitmentPaymentInterval": "One-Time",
            "ContractCommitmentPaymentModel": "All Upfront",
            "ContractCommitmentQuantity": quantity_text(_hours(charge.added_milli_vcpu, charge.window)),
            "ContractCommitmentType": "Committed capacity",
            "ContractCommitmentUnit": "vCPU-Hours",
        }
    spend = contract.spend_commitment
    if spend is not None:
        yield _shared(known, contract.window, as_of_ms) | {
            "ContractCommitmentCategory": "Spend",
            "ContractCommitmentCost": f"{spend.amount:f}",
            "ContractCommitmentDescription": f"Spend of each {spend.every}, before tax; the rest is trued up",
            "ContractCommitmentDurationType": duration(contract.term.start, contract.term.end),
            "ContractCommitmentFulfillmentInterval": _INTERVALS[spend.every],
            "ContractCommitmentId": f"{contract.contract}/spend",
            "ContractCommitmentPaymentInterval": _INTERVALS[spend.every],
            "ContractCommitmentPaymentModel": "No Upfront",
            "ContractCommitmentQuantity": "",
            "ContractCommitmentType": "Committed spend",
            "ContractCommitmentUnit": "",
        }


def applied_text(agreed: AgreedContract, period: Window) -> str:
    """`ContractApplied` of a period's committed capacity: vCPU-hours of each step, as JSON numbers."""
    contract = agreed.contract
    elements = []
    for charge in charges_of(contract):
        shared = charge.window.intersection(period)
        if shared is None:
            continue
        ids = {
            "ContractId": contract.contract,
            "ContractCommitmentId": commitment_id(contract.contract, charge.start),
            "ContractCommitmentAppliedUnit": "vCPU-Hours",
        }
        text = json.dumps(ids, separators=(",", ":"))[:-1]  # the number is written as it is, never through a float
        hours = quantity_text(_hours(charge.added_milli_vcpu, shared))
        elements.append(f'{text},"ContractCommitmentAppliedQuantity":{hours}}}')
    return f'{{"Elements":[{",".join(elements)}]}}' if elements else ""


def paid_in(documents: Sequence[Mapping[str, Any]], contract: str, period: Window) -> Decimal:
    """The share of `period` in what was paid up front for capacity; the shares of a term sum to what was paid."""
    share = Decimal(0)
    for document in documents:
        if document["kind"] != COMMITMENT or document["contract"]["id"] != contract:
            continue
        for line in document["lines"]:
            term = window_of(line["period"])
            shared = term.intersection(period)
            if line["kind"] == COMMITMENT and shared is not None:
                amount = Money(Decimal(line["amount"]), currency(document["currency"]["code"]))
                share += _until(amount, term, shared.end_ms) - _until(amount, term, shared.start_ms)
    return share


def commitment_id(contract: str, start: date) -> str:
    """Of the step of a contract's capacity that begins on `start`."""
    return f"{contract}/{start}"


def duration(start: date, end: date) -> str:
    """`12 Months` for a whole number of months, else days. Format: FOCUS 1.4, ContractCommitmentDurationType."""
    months = (end.year - start.year) * 12 + end.month - start.month
    count, unit = (
        (months, "Month") if months > 0 and start.day == end.day else ((end - start) // timedelta(1), "Day")
    )
    return f"{count} {unit}{'s' if count != 1 else ''}"


def _until(amount: Money, term: Window, moment_ms: int) -> Decimal:
    part = Fraction(moment_ms - term.start_ms, term.length_ms)
    return Money.round_half_up(Fraction(amount.amount) * part, amount.currency).amount


def _hours(milli_vcpu: int, window: Window) -> Fraction:
    return Fraction(milli_vcpu * window.length_ms, 1000 * 3_600_000)


def _shared(known: Known, window: Window, as_of_ms: int) -> Row:
    contract = known.agreed.contract
    scope = {"Dimension": "BillingAccountId", "Operator": "In", "Values": [contract.organization]}
    applicability = {"IsGlobalScope": False, "InclusionOperator": "And", "Inclusions": [scope]}
    status = "Pending" if as_of_ms < window.start_ms else "Active" if as_of_ms < window.end_ms else "Expired"
    return {
        "BillingCurrency": known.currency,
        "ContractCommitmentApplicability": json.dumps(applicability, separators=(",", ":")),
        "ContractCommitmentBenefitCategory": "Entitlement",
        "ContractCommitmentCreated": focus_time(known.first_ms),
        "ContractCommitmentDiscountPercentage": "",
        "ContractCommitmentLastUpdated": focus_time(known.last_ms),
        "ContractCommitmentLifecycleStatus": status,
        "ContractCommitmentModel": "Continuous",
        "ContractCommitmentOfferCategory": "Negotiated",
        "ContractCommitmentPeriodEnd": focus_time(window.end_ms),
        "ContractCommitmentPeriodStart": focus_time(window.start_ms),
        "ContractId": contract.contract,
        "ContractPeriodEnd": focus_time(contract.window.end_ms),
        "ContractPeriodStart": focus_time(contract.window.start_ms),
        "InvoiceIssuerName": contract.legal_entity.name,
        "ServiceProviderName": contract.legal_entity.name,
    }
