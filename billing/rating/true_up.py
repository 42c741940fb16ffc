"""Capacity true-up: the highest use above the commitment is bought, when a quarter or year of the term ends.

Instead of billing minutes above the commitment. The rule is `billing.pricing.reconciliation`; quarters are counted
from the first day of the term, and what was bought lasts to the end of the term's year.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from fractions import Fraction

from billing.contract import Contract
from billing.fields import midnight_ms
from billing.pricing.reconciliation import annual_true_up, quarterly_true_up
from billing.pricing.spend import MONTHS, months_after
from billing.rating.fact import render_vcpu, text_fact, vcpu_fact
from billing.rating.line import CapacityPeak, Derivation, Line, RatingInput
from kernel.money import Money
from kernel.window import Window

CAPACITY_TRUE_UP = "capacity-true-up"
_MONTHS_IN_A_YEAR = 12


def due_periods(contract: Contract, period: Window) -> tuple[tuple[date, date], ...]:
    """The periods of the term's year, from its first, the last of which ends in the billed `period`; none if none.

    First days, and first days after. A term that ends inside one cuts it.
    """
    if contract.capacity_true_up is None:
        return ()
    step, term = MONTHS[contract.capacity_true_up.every], contract.term
    number = 0
    while (start := months_after(term.start, number * step)) < term.end:
        end = min(months_after(term.start, (number + 1) * step), term.end)
        if period.start_ms < midnight_ms(end, contract.time_zone) <= period.end_ms:
            first = number - number % (_MONTHS_IN_A_YEAR // step)
            earlier = [months_after(term.start, each * step) for each in range(first, number + 1)]
            return tuple(zip(earlier, [*earlier[1:], end], strict=True))
        if midnight_ms(start, contract.time_zone) >= period.end_ms:
            break
        number += 1
    return ()


def capacity_true_up_lines(rated: RatingInput, _: Sequence[Line]) -> Iterator[Line]:
    """One line when a period ends, of zero if nothing was used above what is committed and bought."""
    terms, peaks = rated.contract.capacity_true_up, rated.capacity_peaks
    if terms is None or not peaks:
        return
    above = tuple(Fraction(peak.above_milli_vcpu, 1000) for peak in peaks)
    if terms.every == "quarter":
        found = quarterly_true_up(above, Fraction(0), rated.price_per_vcpu_year)
        bought = found[-2].licensed if len(found) > 1 else Fraction(0)
        part = found[-1].part
    else:
        bought = Fraction(0)
        part = annual_true_up(above[-1], bought, rated.price_per_vcpu_year).part
    last = peaks[-1]
    amount = Money.round_half_up(part.amount, rated.currency)
    yield Line(
        kind=CAPACITY_TRUE_UP,
        description=f"Capacity true-up of the {terms.every} from {last.start} to {last.end}",
        period=last.window,
        amount=amount,
        derivation=Derivation(
            quantity=part.quantity,
            unit="vCPU",
            rate=None,
            unrounded=part.amount,
            rounding=Fraction(amount.amount) - part.amount,
            facts=(
                vcpu_fact("above_milli_vcpu", "Highest use above the commitment", last.above_milli_vcpu),
                vcpu_fact("bought_milli_vcpu", "Bought before in this year of the term", int(bought * 1000)),
                text_fact("peaks", "Highest by period", ", ".join(map(_shown, peaks))),
            ),
            parts=(part,),
        ),
        tax=rated.contract.tax,
    )


def _shown(peak: CapacityPeak) -> str:
    return f"{peak.start}: {render_vcpu(peak.above_milli_vcpu)} vCPU"
