"""The monthly report's figures, computed again in another way: a walk in steps over the whole month."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import from_ms, to_ms
from kernel.errors import InvalidInput, Stop
from kernel.steps import StepFunction
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.usage.model import UsageMonth
from metering.usage.report import MonthlyReport, monthly_report
from metering.usage.rows import UsageRows
from tests.effort import costly
from tests.usage.months import Change, usage_month

STEP_MS = HOUR_MS // 2  # every change in these tests lies on it
SERIES: dict[tuple[str, str], list[Change]] = {
    ("orders", "query"): [(0, 4000), (3 * DAY_MS, 8000), (4 * DAY_MS + STEP_MS, 4000)],
    ("orders", "index"): [(DAY_MS, 2000), (20 * DAY_MS, None), (20 * DAY_MS + 5 * STEP_MS, 2000)],
    ("search", "milvus"): [(10 * DAY_MS, 1500), (12 * DAY_MS, 0)],
}


def capacity_of(usage: UsageMonth) -> StepFunction:
    """6 vCPU, 9 from the 15th day on."""
    start = usage.window.start_ms
    return StepFunction.of([(start, 6000), (start + 14 * DAY_MS, 9000), (usage.window.end_ms, 0)])


def report_of(name: str = "2026-06", zone: str = "Etc/UTC") -> tuple[MonthlyReport, UsageMonth, StepFunction]:
    usage = usage_month(name, zone, SERIES)
    capacity = capacity_of(usage)
    return monthly_report(usage, capacity, name, zone), usage, capacity


@pytest.mark.parametrize(
    ("name", "zone"), [("2026-06", "Etc/UTC"), ("2026-03", "Europe/Berlin"), ("2024-02", "Asia/Shanghai")]
)
def test_licence_coverage_days_and_peak_against_a_walk(name: str, zone: str) -> None:
    report, usage, capacity = report_of(name, zone)
    used_on: dict[date, int] = {}
    over_on: dict[date, int] = {}
    used = over = over_ms = entitled = peak = 0
    for at in range(usage.window.start_ms, usage.window.end_ms, STEP_MS):
        level, limit = usage.step.at(at), capacity.at(at)
        day = from_ms(at).astimezone(ZoneInfo(zone)).date()
        used_on[day] = used_on.get(day, 0) + level * STEP_MS
        over_on[day] = over_on.get(day, 0) + max(0, level - limit) * STEP_MS
        used, entitled, peak = used + level * STEP_MS, entitled + limit * STEP_MS, max(peak, level)
        over += max(0, level - limit) * STEP_MS
        over_ms += STEP_MS if level > limit else 0
    assert report.coverage is not None
    assert report.peak is not None
    assert report.milli_vcpu_ms == used
    assert {day.day: day.milli_vcpu_ms for day in report.days} == used_on
    assert {day.day: day.overage_milli_vcpu_ms for day in report.days} == over_on
    assert (report.coverage.overage_milli_vcpu_ms, report.coverage.over_ms) == (over, over_ms)
    assert report.coverage.within_milli_vcpu_ms == used - over
    assert report.coverage.capacity_milli_vcpu_ms == entitled
    assert report.coverage.overage_vcpu_minutes == Fraction(over, 60_000_000)
    assert report.coverage.over_share == Fraction(over_ms, usage.window.length_ms)
    assert report.peak.milli_vcpu == peak
    assert usage.step.at(report.peak.at_ms) == peak
    assert all(usage.step.at(at) < peak for at in range(usage.window.start_ms, report.peak.at_ms, STEP_MS))


def test_days_tile_the_month_and_a_day_of_the_clock_change_has_23_hours() -> None:
    report, usage, _ = report_of("2026-03", "Europe/Berlin")
    assert report.days[0].window.start_ms == usage.window.start_ms
    assert report.days[-1].window.end_ms == usage.window.end_ms
    assert all(
        before.window.end_ms == after.window.start_ms
        for before, after in zip(report.days, report.days[1:], strict=False)
    )
    assert report.days[28].day == date(2026, 3, 29)
    assert report.days[28].window.length_ms == 23 * HOUR_MS


def test_totals_by_component_are_the_sums_of_the_rows() -> None:
    report, usage, _ = report_of()
    for total in report.components:
        rows = [row for row in usage.rows if (row.cluster, row.component) == (total.cluster, total.component)]
        assert total.milli_vcpu_ms == sum(row.milli_vcpu_ms for row in rows)
        assert total.vcpu_hours == sum((Fraction(row.milli_vcpu_ms, 3_600_000_000) for row in rows), Fraction(0))
        assert (total.observed_ms, total.missing_ms) == (
            sum(row.observed_ms for row in rows),
            sum(row.missing_ms for row in rows),
        )
    assert [(total.cluster, total.component) for total in report.components] == sorted(SERIES)
    assert sum(day.observed_ms for day in report.days) == report.observed_ms == usage.observed_ms
    assert sum(day.missing_ms for day in report.days) == report.missing_ms == usage.missing_ms


def test_consecutive_hours_with_missing_time_are_one_gap() -> None:
    """Two and a half hours from the 21st at 00:00: three hours, one gap, 2.5 hours of it missing."""
    report, _, _ = report_of()
    start = to_ms(datetime(2026, 6, 21, tzinfo=UTC))
    (gap,) = report.gaps
    assert (gap.cluster, gap.component) == ("orders", "index")
    assert gap.window == Window(start, start + 3 * HOUR_MS)
    assert gap.missing_ms == 5 * STEP_MS
    assert [day.day.day for day in report.days if day.missing_ms] == [21]


def test_a_month_without_capacity_or_use() -> None:
    usage = usage_month("2026-06", "Etc/UTC", {})
    report = monthly_report(usage, None, "2026-06", "Etc/UTC")
    assert (report.coverage, report.peak, report.components, report.gaps) == (None, None, (), ())
    empty = monthly_report(usage, StepFunction(), "2026-06", "Etc/UTC")
    assert empty.coverage is not None
    assert empty.coverage.used_share is None


def test_usage_of_another_month_is_refused() -> None:
    usage = usage_month("2026-06", "Etc/UTC", SERIES)
    with pytest.raises(InvalidInput, match="2026-07 in Etc/UTC"):
        monthly_report(usage, None, "2026-07", "Etc/UTC")


def test_rows_that_do_not_agree_with_the_step_function_stop_the_report() -> None:
    usage = usage_month("2026-06", "Etc/UTC", SERIES)
    with pytest.raises(Stop, match="do not bill it"):
        monthly_report(
            replace(usage, rows=UsageRows.of(usage.organization, usage.rows[1:])), None, "2026-06", "Etc/UTC"
        )


changes = st.lists(
    st.tuples(
        st.integers(0, 28 * 48 - 1).map(lambda n: n * STEP_MS), st.sampled_from([None, 0, 500, 4000, 12_000])
    ),
    max_size=6,
    unique_by=lambda change: change[0],
)


@costly(40)
@given(changes, changes, st.integers(0, 20_000))
def test_within_and_overage_are_the_use_and_the_days_are_the_month(
    first: list[Change], second: list[Change], capacity: int
) -> None:
    usage = usage_month("2026-02", "Etc/UTC", {("orders", "query"): first, ("search", "query"): second})
    report = monthly_report(usage, StepFunction.constant(usage.window, capacity), "2026-02", "Etc/UTC")
    coverage = report.coverage
    assert coverage is not None
    assert coverage.within_milli_vcpu_ms + coverage.overage_milli_vcpu_ms == report.milli_vcpu_ms
    assert coverage.within_milli_vcpu_ms <= coverage.capacity_milli_vcpu_ms
    assert (coverage.overage_milli_vcpu_ms > 0) == (coverage.over_ms > 0)
    assert sum(day.milli_vcpu_ms for day in report.days) == report.milli_vcpu_ms
    assert sum(day.overage_milli_vcpu_ms for day in report.days) == coverage.overage_milli_vcpu_ms
    assert max(day.peak_milli_vcpu for day in report.days) == (report.peak.milli_vcpu if report.peak else 0)
