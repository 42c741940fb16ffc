"""A month of usage to report on, made from level changes, and sealed hours for the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernel.ids import ClusterId, CollectorId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.model import UsageMonth, UsageRow, digest_of
from metering.usage.sealing import HourToSeal

ACME = OrganizationId("acme")
Change = tuple[int, int | None]  # ms since the start of the month, milli-vCPU or None for missing


def usage_month(name: str, zone: str, series: Mapping[tuple[str, str], Sequence[Change]]) -> UsageMonth:
    """A month in which each (cluster, component) changes as told; None is time that was not observed."""
    window = month(name, zone)
    rows, steps = [], []
    for (cluster, component), changes in series.items():
        points = [(window.start_ms + at, level) for at, level in changes]
        level_of = StepFunction.of([(at, level or 0) for at, level in points] + [(window.end_ms, 0)])
        gone = StepFunction.of([(at, int(level is None)) for at, level in points] + [(window.end_ms, 0)])
        steps.append(level_of)
        rows += [_row(cluster, component, hour, level_of, gone) for hour in hours_in(window)]
    return UsageMonth(
        organization=ACME,
        window=window,
        rows=tuple(rows),
        step=StepFunction.sum_of(steps),
        observed_ms=sum(row.observed_ms for row in rows),
        missing_ms=sum(row.missing_ms for row in rows),
        revision_digest=digest_of(rows),
        sealed=True,
    )


def _row(cluster: str, component: str, hour: Window, level: StepFunction, gone: StepFunction) -> UsageRow:
    missing_ms = gone.integral(hour)
    return UsageRow(
        organization=ACME,
        project=ProjectId("prod"),
        cluster=ClusterId(cluster),
        component=component,
        hour=hour,
        revision=1,
        milli_vcpu_ms=level.integral(hour),
        observed_ms=hour.length_ms - missing_ms,
        missing_ms=missing_ms,
        peak_milli_vcpu=level.maximum(hour),
        sources=(f"samples-{hour.start_ms}.parquet {'0' * 64}",),
    )


@dataclass(frozen=True)
class Seen:
    """A component in an hour, and its level."""

    row: ComponentHour
    points: tuple[tuple[int, int], ...]


def seen(
    hour: Window, milli_vcpu: int = 4000, *, until_ms: int | None = None, after_ms: int = 0, cluster: str = "orders"
) -> Seen:
    """A query component held at one level from `after_ms` to `until_ms` of the hour; the rest is missing."""
    start, end = hour.start_ms + after_ms, hour.start_ms + (HOUR_MS if until_ms is None else until_ms)
    row = ComponentHour(
        component=Component(ProjectId("prod"), ClusterId(cluster), "query"),
        collector=CollectorId("col-a"),
        milli_vcpu_ms=milli_vcpu * (end - start),
        observed_ms=end - start,
        missing_ms=HOUR_MS - (end - start),
        peak_milli_vcpu=milli_vcpu,
        open_at_end=True,
        gaps=tuple(Window(*gap) for gap in ((hour.start_ms, start), (end, hour.end_ms)) if gap[0] < gap[1]),
    )
    return Seen(row, ((start, milli_vcpu), (end, 0)))


def to_seal(hour: Window, *components: Seen, files: str = "a") -> HourToSeal:
    step = StepFunction.sum_of(StepFunction.of(each.points) for each in components).points
    rows = [each.row for each in components]
    return HourToSeal(ACME, hour, rows, step, (f"{files}.parquet {'0' * 64}",), files * 64, 7, "watermark")
