"""Price model: the committed capacity, charged once when it begins, for the rest of the term.

A step of the commitment is charged for what it adds: vCPU times years until the end of the term, where whole
years count one each and the rest counts days / 365.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from billing.contract import Contract, years_of
from billing.fields import midnight_ms
from billing.rating.fact import Fact, render_vcpu, text_fact, usage_fact, vcpu_fact
from billing.rating.line import Line, Priced, Rate, RatingInput
from kernel.money import Currency
from kernel.quantity import render_fraction
from kernel.window import Window


@dataclass(frozen=True, slots=True)
class CommitmentCharge:
    """What one step of the commitment adds, from `start` to the end of the term."""

    start: date
    window: Window
    added_milli_vcpu: int


def charges_of(contract: Contract) -> Iterator[CommitmentCharge]:
    """The charges of a contract's commitment, one for each step that adds capacity, by date; none of a trial."""
    before = 0
    for step in contract.commitment if not contract.trial else ():
        if step.milli_vcpu > before:
            window = Window(midnight_ms(step.start, contract.time_zone), contract.window.end_ms)
            yield CommitmentCharge(step.start, window, step.milli_vcpu - before)
        before = step.milli_vcpu


def commitment(contract: Contract, charge: CommitmentCharge, price: Fraction, unit: Currency) -> Line:
    """The line that charges it."""
    years = years_of(charge.start, contract.term.end)
    vcpu = Fraction(charge.added_milli_vcpu, 1000)
    shown = render_fraction(price, 8).rstrip("0").rstrip(".")
    priced = Priced(
        quantity=vcpu * years,
        unit="vCPU-year",
        rate=Rate(price, f"{shown} {unit.code} per vCPU-year"),
        facts=(
            vcpu_fact("added_milli_vcpu", "Added capacity", charge.added_milli_vcpu),
            text_fact("years", "Years until the end of the term", str(years)),
            *_term_facts(contract),
        ),
    )
    amount, derivation = priced.amount(unit)
    return Line(
        kind="commitment",
        description=f"Committed capacity: {render_vcpu(charge.added_milli_vcpu)} vCPU until the end of the term",
        period=charge.window,
        amount=amount,
        derivation=derivation,
        tax=contract.tax,
    )


def commitment_information(rated: RatingInput) -> Line:
    """The line of a monthly invoice that recalls the commitment; its amount is zero."""
    contract = rated.contract
    values = sorted({value for _, value in contract.timeline.pieces(rated.period)})
    shown = " to ".join(dict.fromkeys(render_vcpu(value) for value in (values[0], values[-1])))
    priced = Priced(
        quantity=Fraction(contract.timeline.integral(rated.period), 1000 * 3_600_000),
        unit="vCPU-hour",
        rate=Rate(
            Fraction(0),
            "not billed: a trial"
            if contract.trial
            else "charged once at the start of the term, on its own invoice",
        ),
        facts=(
            usage_fact("committed_milli_vcpu_ms", "Committed", contract.timeline.integral(rated.period)),
            *_term_facts(contract),
        ),
    )
    amount, derivation = priced.amount(rated.currency)
    return Line(
        kind="commitment-information",
        description=f"Committed capacity: {shown} vCPU (information)",
        period=rated.period,
        amount=amount,
        derivation=derivation,
        tax=contract.tax,
        informational=True,
    )


def _term_facts(contract: Contract) -> tuple[Fact, Fact]:
    return (
        text_fact("term_start", "First day of the term", contract.term.start.isoformat()),
        text_fact("term_end", "First day after the term", contract.term.end.isoformat()),
    )
