"""Price model: usage above the commitment, in vCPU-minutes, at the committed price / (365*24*60).

Source of the rule: https://docs.zilliz.com/docs/byoc/understand-byoc-billing. That page rounds the rate to four
places and arrives at 1.02 for 600 minutes; here the rate stays a fraction and the line is rounded once: 1.03.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from billing.contract import DAYS_IN_A_PRICED_YEAR, Contract
from billing.rating.bases import BASIS_TEXT, excess_of, overage_with
from billing.rating.coverage import coverage_facts, coverage_notes
from billing.rating.fact import text_fact, usage_fact, vcpu_fact
from billing.rating.line import Line, Priced, Rate, RatingInput
from billing.spread import integrals, local_days
from kernel.quantity import VCPU_MINUTE_IN_MILLI_VCPU_MS, render_fraction, vcpu_minutes
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.filling import fill

MINUTES_IN_A_PRICED_YEAR = DAYS_IN_A_PRICED_YEAR * 24 * 60


def overage_rate(price_per_vcpu_year: Fraction, currency: str) -> Rate:
    """The price of one vCPU-minute, exact."""
    shown = render_fraction(price_per_vcpu_year, 8).rstrip("0").rstrip(".")
    basis = f"{shown} {currency} per vCPU-year / ({DAYS_IN_A_PRICED_YEAR}*24*60)"
    return Rate(price_per_vcpu_year / MINUTES_IN_A_PRICED_YEAR, basis)


def overage(rated: RatingInput) -> Line:
    """The overage line. Without on-demand, in a trial, or beside a true-up it is stated, not billed."""
    contract = rated.contract
    unbilled = _why_not_billed(contract)
    filled = fill(rated.usage, contract.gap_rule)
    usage, basis = filled.step, contract.overage_basis
    excess = excess_of(usage, contract.timeline, rated.period)
    above = overage_with(basis, usage, contract.timeline, rated.period, excess)
    priced = Priced(
        quantity=above / VCPU_MINUTE_IN_MILLI_VCPU_MS,
        unit="vCPU-minute",
        rate=overage_rate(rated.price_per_vcpu_year, rated.currency.code)
        if unbilled is None
        else Rate(Fraction(0), f"not billed: {unbilled}"),
        facts=(
            text_fact("overage_basis", "Basis", BASIS_TEXT[basis]),
            usage_fact("used_milli_vcpu_ms", "Used", usage.integral(rated.period)),
            usage_fact("committed_milli_vcpu_ms", "Committed", contract.timeline.integral(rated.period)),
            usage_fact("overage_milli_vcpu_ms", "Above the commitment", excess.integral(rated.period)),
            vcpu_fact("peak_milli_vcpu", "Highest level", usage.maximum(rated.period)),
            *coverage_facts(rated, filled),
        ),
        days=tuple(_by_day(excess, rated.period, contract.time_zone)) if basis == "instant" else (),
    )
    amount, derivation = priced.amount(rated.currency)
    return Line(
        kind="overage",
        description="On-demand usage above the commitment"
        if unbilled is None
        else f"Usage above the commitment ({unbilled}: not billed)",
        period=rated.period,
        amount=amount,
        derivation=derivation,
        tax=contract.tax,
        informational=unbilled is not None,
        notes=coverage_notes(rated, filled),
    )


def _why_not_billed(contract: Contract) -> str | None:
    if contract.trial:
        return "a trial"
    if contract.capacity_true_up is not None:
        return f"capacity is trued up by the {contract.capacity_true_up.every}"
    return None if contract.on_demand else "the contract has no on-demand"


def _by_day(excess: StepFunction, period: Window, zone: str) -> Iterator[tuple[str, Fraction]]:
    if not excess.points:
        return
    days, edges = local_days(period, zone)
    for day, integral in zip(days, integrals(excess, edges), strict=True):
        if integral:
            yield day, vcpu_minutes(integral)
