"""Overage bases: what counts as usage above the commitment. A field of the contract, printed on the invoice.

Each gives milli-vCPU times milliseconds, exact, from the organization's summed step function and its commitment:

- `instant`: above at each moment, for as long as it lasts;
- `hourly`: the highest excess of each UTC hour (of the part of it in the period), for that whole hour;
- `pooled-month`: all usage of the period less all commitment of it, so that quiet hours pay for busy ones;
- `peak`: the highest excess of the period, for the whole period;
- `p95`: the 95th percentile (nearest rank) of the excess of the means of 5-minute slots, for the whole period; all
  slots of the period count, those without usage as zero.

For the same usage: pooled-month <= instant <= hourly <= peak, and p95 <= peak; all are equal where usage and
commitment are constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from billing.contract import OverageBasis
from kernel.steps import StepFunction
from kernel.window import Window, hours_in

SLOT_MS = 5 * 60_000
PERCENTILE = Fraction(95, 100)

BASIS_TEXT: Mapping[str, str] = {
    "instant": "sum over all clusters minus the commitment, at every moment",
    "hourly": "highest excess of each hour over the commitment, for the whole hour",
    "pooled-month": "all usage of the period minus all commitment of it",
    "peak": "highest excess over the commitment, for the whole period",
    "p95": "95th percentile of 5-minute means over the commitment (nearest rank, all slots), for the whole period",
}


def excess_of(usage: StepFunction, commitment: StepFunction, period: Window) -> StepFunction:
    """max(0, usage - commitment) inside the period. `usage` is the sum over all clusters: summing the excess of
    each cluster would bill capacity that another cluster left unused.
    """
    return (usage - commitment).positive_part().within(period)


def overage_of(basis: OverageBasis, usage: StepFunction, commitment: StepFunction, period: Window) -> Fraction:
    """Milli-vCPU times milliseconds above the commitment, never negative."""
    return overage_with(basis, usage, commitment, period, excess_of(usage, commitment, period))


def overage_with(
    basis: OverageBasis, usage: StepFunction, commitment: StepFunction, period: Window, excess: StepFunction
) -> Fraction:
    """The same where `excess`, their `excess_of`, is known."""
    return _BASES[basis](usage, commitment, period, excess)


def _instant(_usage: StepFunction, _commitment: StepFunction, period: Window, excess: StepFunction) -> Fraction:
    return Fraction(excess.integral(period))


def _hourly(_usage: StepFunction, _commitment: StepFunction, period: Window, excess: StepFunction) -> Fraction:
    return Fraction(sum(excess.maximum(part) * part.length_ms for part in _hours(period)))


def _pooled(usage: StepFunction, commitment: StepFunction, period: Window, _excess: StepFunction) -> Fraction:
    return Fraction(max(0, usage.integral(period) - commitment.integral(period)))


def _peak(_usage: StepFunction, _commitment: StepFunction, period: Window, excess: StepFunction) -> Fraction:
    return Fraction(excess.maximum(period) * period.length_ms)


def _p95(usage: StepFunction, commitment: StepFunction, period: Window, _excess: StepFunction) -> Fraction:
    over = usage - commitment
    means = sorted(max(Fraction(0), Fraction(over.integral(slot), slot.length_ms)) for slot in slots_of(period))
    rank = -(-len(means) * PERCENTILE.numerator // PERCENTILE.denominator)
    return means[rank - 1] * period.length_ms


def slots_of(period: Window) -> Iterator[Window]:
    """The 5-minute slots of a period, counted from its start; the last may be shorter."""
    for start in range(period.start_ms, period.end_ms, SLOT_MS):
        yield Window(start, min(start + SLOT_MS, period.end_ms))


def _hours(period: Window) -> Iterator[Window]:
    for hour in hours_in(period):
        part = hour.intersection(period)
        if part is not None:
            yield part


_BASES: Mapping[str, Callable[[StepFunction, StepFunction, Window, StepFunction], Fraction]] = {
    "instant": _instant,
    "hourly": _hourly,
    "pooled-month": _pooled,
    "peak": _peak,
    "p95": _p95,
}
