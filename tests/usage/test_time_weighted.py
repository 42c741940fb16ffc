"""W23, the published example of a time-weighted integral of a step gauge, through the hours and the month."""

from __future__ import annotations

from fractions import Fraction

from kernel.quantity import MILLI_VCPU
from kernel.steps import StepFunction
from kernel.window import DAY_MS, HOUR_MS, Window, hours_in, month
from metering.usage.hours import component_hours
from tests.usage.scrapes import Row, component, gauge, reading, scrape

AUGUST = month("2023-08")
LIMIT_MS = 300_000
MINUTE_MS = 60_000


def month_of(changes: list[tuple[int, float]], step_ms: int, opening: float = 0.0) -> int:
    """The month's integral of a gauge that is scraped each `step_ms`, in milli-vCPU*ms, hour by hour."""
    level, rows = opening, []
    pending = sorted(changes)
    for at_ms in range(AUGUST.start_ms, AUGUST.end_ms, step_ms):
        while pending and pending[0][0] <= at_ms - AUGUST.start_ms:
            level += pending.pop(0)[1]
        rows.append(gauge(at_ms, level))
    total = 0
    open_before = frozenset({component()})
    hours = list(hours_in(AUGUST))
    found = component_hours(reading(rows, step_ms), hours, step_ms, open_before)
    assert all(row.missing_ms == 0 for hour in found for row in hour.components)
    for hour in found:
        total += sum(row.milli_vcpu_ms for row in hour.components)
    return total


def average(total: int) -> Fraction:
    return Fraction(total, MILLI_VCPU.scale * AUGUST.length_ms)


def test_w23_a() -> None:
    """A 31-day month: 20 for one day, then 30 for fifteen days, nothing after: 470 unit-days."""
    day = DAY_MS
    total = month_of([(0, 20), (day, 10), (16 * day, -30)], step_ms=HOUR_MS)
    assert Fraction(total, MILLI_VCPU.scale * DAY_MS) == 470
    assert f"{float(average(total)):.10f}" == "15.1612903226"


W23_B: list[tuple[int, float]] = [
    (0, 2), (HOUR_MS, 3), (90 * MINUTE_MS, 1), (2 * HOUR_MS, -4), (4 * HOUR_MS, -2), (5 * HOUR_MS, 10),
    (330 * MINUTE_MS, -10),
]  # fmt: skip


def test_w23_b() -> None:
    """+2 at 00:00, +3 at 01:00, +1 at 01:30, -4 at 02:00, -2 at 04:00, +10 at 05:00, -10 at 05:30."""
    total = month_of(W23_B, step_ms=30 * MINUTE_MS)
    assert Fraction(total, MILLI_VCPU.scale * HOUR_MS) == Fraction("16.5")
    assert f"{float(average(total)):.5f}" == "0.02218"


def test_w23_c() -> None:
    """The same on an opening balance of 1000."""
    total = month_of(W23_B, step_ms=30 * MINUTE_MS, opening=1000)
    assert f"{float(average(total)):.5f}" == "1000.02218"


def test_the_step_function_of_the_hours_has_the_same_integral() -> None:
    day = Window(AUGUST.start_ms, AUGUST.start_ms + DAY_MS)
    rows: list[Row] = []
    for minute in range(0, 24 * 60, 4):
        at_ms = day.start_ms + minute * MINUTE_MS
        rows += [gauge(at_ms, float(minute % 7)), gauge(at_ms, 2.5, component="index"), scrape(at_ms)]
    found = component_hours(reading(rows, LIMIT_MS), list(hours_in(day)), LIMIT_MS, frozenset())
    step = StepFunction.sum_of(StepFunction(tuple(hour.step)) for hour in found)
    assert step.integral(day) == sum(row.milli_vcpu_ms for hour in found for row in hour.components)
