"""The four data sets of an organization's documents over a span of billing months. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from billing.agreed import agreed_on
from billing.document import utc_ms
from billing.exports.focus.charges import (
    COMMITMENT,
    INFORMATION,
    Charge,
    Row,
    Service,
    billing_month,
    charges_on,
    cost_row,
    detail_row,
    focus_time,
)
from billing.exports.focus.columns import (
    BILLING_PERIOD,
    CONTRACT_COMMITMENT,
    COST_AND_USAGE,
    COST_AND_USAGE_1_2,
    INVOICE_DETAIL,
)
from billing.exports.focus.commitments import Known, applied_text, commitment_rows, paid_in
from kernel.errors import InvalidInput, NotFound
from kernel.window import month

Bundle = dict[str, tuple[tuple[str, ...], list[Row]]]  # by file name without `.csv`: columns, rows
COST, COST_1_2 = "cost-and-usage", "cost-and-usage-1.2"
DETAIL, PERIODS, COMMITMENTS = "invoice-detail", "billing-period", "contract-commitment"


@dataclass(frozen=True, slots=True)
class Issue:
    """An issued document, and whether it is void: it then stands in Invoice Detail alone."""

    document: Mapping[str, Any]
    is_void: bool


@dataclass(frozen=True, slots=True)
class FocusRequest:
    """Billing months from `first` to `last`, both included, as known at `as_of_ms`."""

    first: str
    last: str
    service: Service
    as_of_ms: int

    def __post_init__(self) -> None:
        if month(self.last).start_ms < month(self.first).start_ms:
            raise InvalidInput.single("command line", "--to", self.last, f"not before {self.first}")


@dataclass(slots=True)
class _Rows:
    cost: list[Row] = field(default_factory=list)
    detail: list[Row] = field(default_factory=list)
    periods: dict[tuple[str, str], Row] = field(default_factory=dict)  # by start and issuer
    known: dict[str, Known] = field(default_factory=dict)  # by contract


def build_bundle(issues: Iterable[Issue], request: FocusRequest) -> Bundle:
    """The data sets, by file name. `issues` are all of the organization, for commitments of before the span.

    Raises NotFound when nothing was issued in the span.
    """
    issues = list(issues)
    standing = [each.document for each in issues if not each.is_void]
    rows = _Rows()
    for each in issues:
        if request.first <= billing_month(each.document) <= request.last:
            _add(rows, each, standing, request)
    if not rows.detail:
        raise NotFound(f"no document has a billing month from {request.first} to {request.last}")
    commitments = [row for known in rows.known.values() for row in commitment_rows(known, request.as_of_ms)]
    return {
        COST: (COST_AND_USAGE, rows.cost),
        COST_1_2: (COST_AND_USAGE_1_2, [_as_1_2(row) for row in rows.cost]),
        DETAIL: (INVOICE_DETAIL, rows.detail),
        PERIODS: (BILLING_PERIOD, list(rows.periods.values())),
        COMMITMENTS: (CONTRACT_COMMITMENT, commitments),
    }


def _add(rows: _Rows, each: Issue, standing: list[Mapping[str, Any]], request: FocusRequest) -> None:
    document = each.document
    known = _known(rows.known.get(document["contract"]["id"]), document)
    rows.known[document["contract"]["id"]] = known
    days = agreed_on(document).contract.payment_days
    for charge in charges_on(document):
        rows.detail.append(detail_row(document, charge, is_void=each.is_void, payment_days=days))
        if not each.is_void:
            row = cost_row(document, charge, _effective(document, charge, standing), request.service)
            if charge.kind == INFORMATION:
                row["ContractApplied"] = applied_text(agreed_on(document), charge.period)
            rows.cost.append(row)
    _note_period(rows, rows.detail[-1], each, request.as_of_ms)


def _effective(document: Mapping[str, Any], charge: Charge, standing: list[Mapping[str, Any]]) -> Decimal:
    """What is paid up front costs nothing when it is bought, and its share in each period that it covers."""
    if charge.kind == COMMITMENT and document["kind"] == COMMITMENT:
        return Decimal(0)
    if charge.kind == INFORMATION:
        return paid_in(standing, document["contract"]["id"], charge.period)
    return charge.billed


def _known(before: Known | None, document: Mapping[str, Any]) -> Known:
    issued = utc_ms(document["issued_at"])
    agreed = agreed_on(document)
    first, last = (before.first_ms, before.last_ms) if before else (issued, issued)
    if before is not None and agreed.contract.version < before.agreed.contract.version:
        agreed = before.agreed
    return Known(agreed, document["currency"]["code"], min(first, issued), max(last, issued))


def _note_period(rows: _Rows, detail: Row, each: Issue, as_of_ms: int) -> None:
    """A billing period is closed when it is over and a usage invoice of it stands."""
    start, end, issuer = detail["BillingPeriodStart"], detail["BillingPeriodEnd"], detail["InvoiceIssuerName"]
    created = focus_time(min(utc_ms(start), utc_ms(each.document["issued_at"])))
    issued = detail["InvoiceIssueDate"]
    row = rows.periods.setdefault(
        (start, issuer),
        {
            "BillingPeriodCreated": created,
            "BillingPeriodEnd": end,
            "BillingPeriodLastUpdated": issued,
            "BillingPeriodStart": start,
            "BillingPeriodStatus": "Open",
            "InvoiceIssuerName": issuer,
        },
    )
    row["BillingPeriodCreated"] = min(row["BillingPeriodCreated"], created, key=utc_ms)
    row["BillingPeriodLastUpdated"] = max(row["BillingPeriodLastUpdated"], issued, key=utc_ms)
    if each.document["kind"] == "usage" and not each.is_void and utc_ms(end) <= as_of_ms:
        row["BillingPeriodStatus"] = "Closed"


def _as_1_2(row: Row) -> Row:
    known = row | {"ProviderName": row["ServiceProviderName"], "PublisherName": row["ServiceProviderName"]}
    # Decimals by the specification: focus-validator 2.2.1 takes a column of CSV without any point for integers.
    decimals = {name: _with_point(row[name]) for name in ("ConsumedQuantity", "PricingQuantity")}
    return {name: decimals.get(name, known[name]) for name in COST_AND_USAGE_1_2}


def _with_point(number: str) -> str:
    return f"{number}.0" if number and "." not in number else number
