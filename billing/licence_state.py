"""Where an organization stands against its licences: share in use, what remains, what is crossed, when it runs out.

Pure. Thresholds are those of the published BYOC alerts: 70, 90 and 100 % of the capacity, 60, 30 and 7 days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing.licence import Licence, capacity_of, covered_until_ms, grace_of
from kernel.steps import StepFunction
from kernel.window import DAY_MS, Window

USE_PERCENT = (70, 90, 100)
DAYS_LEFT = (60, 30, 7)
FORECAST_DAYS = 30  # of peaks that the trend is taken from


@dataclass(frozen=True, slots=True)
class LicenceState:
    """At one moment. Levels are milli-vCPU; `exhausted_ms` None: not on this trend, or not in the validity."""

    capacity: int
    used: int
    until_ms: int  # end of the validity that holds now, through licences that follow without a gap
    crossed: tuple[str, ...]  # "70 %", "30 days", "in grace"
    exhausted_ms: int | None
    grace_until_ms: int | None = None  # None: not in grace

    @property
    def remaining(self) -> int:
        """Negative when over capacity."""
        return self.capacity - self.used


def licence_state(licences: Sequence[Licence], usage: StepFunction, now_ms: int) -> LicenceState:
    """`usage` is the organization's summed milli-vCPU. Raises ValueError without licences."""
    capacity = capacity_of(licences)
    until_ms = covered_until_ms(licences, now_ms)
    licensed, used = capacity.at(now_ms), usage.at(now_ms)
    graces = [grace for licence in licences if (grace := grace_of(licence, licences)) and now_ms in grace]
    is_expired = now_ms >= until_ms
    return LicenceState(
        capacity=licensed,
        used=used,
        until_ms=until_ms,
        crossed=(*_crossed(licensed, used, until_ms - now_ms), *(("in grace",) if graces and is_expired else ())),
        exhausted_ms=forecast(capacity, usage, now_ms, until_ms),
        grace_until_ms=max(grace.end_ms for grace in graces) if graces and is_expired else None,
    )


def forecast(capacity: StepFunction, usage: StepFunction, now_ms: int, until_ms: int) -> int | None:
    """When usage reaches the capacity, by the least-squares line through the last 30 days' peaks.

    `now_ms` when it is reached already; the capacity may change on the way. At most the end of the validity.
    """
    if usage.at(now_ms) >= capacity.at(now_ms):
        return now_ms
    days = [Window(now_ms - (n + 1) * DAY_MS, now_ms - n * DAY_MS) for n in reversed(range(FORECAST_DAYS))]
    peaks = [usage.maximum(day) for day in days]
    slope, level = _line(peaks)
    if slope <= 0 or until_ms <= now_ms:
        return None
    for piece, licensed in capacity.pieces(Window(now_ms, until_ms)):
        reached = (Fraction(licensed) - level) / slope * DAY_MS  # from the middle of the last day
        at_ms = now_ms - DAY_MS // 2 + int(reached)
        if at_ms < piece.end_ms:
            return max(at_ms, piece.start_ms)
    return None


def _line(peaks: Sequence[int]) -> tuple[Fraction, Fraction]:
    """Slope for each day, and the line's level on the last day."""
    count = len(peaks)
    mean_day, mean = Fraction(count - 1, 2), Fraction(sum(peaks), count)
    away = [Fraction(day) - mean_day for day in range(count)]
    above = sum((days * (peak - mean) for days, peak in zip(away, peaks, strict=True)), Fraction(0))
    slope = above / sum((days * days for days in away), Fraction(0))
    return slope, mean + slope * (count - 1 - mean_day)


def _crossed(capacity: int, used: int, left_ms: int) -> Iterator[str]:
    for percent in USE_PERCENT:
        if used and used * 100 >= capacity * percent:
            yield f"{percent} %"
    for days in DAYS_LEFT:
        if left_ms <= days * DAY_MS:
            yield f"{days} days"
