"""A month of usage to report on, made from level changes, and sealed hours for the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from kernel.ids import ClusterId, CollectorId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRow, UsageRows, digest_of
from metering.usage.sealing import HourToSeal
from metering.usage.shapes import Shape

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
        rows=UsageRows.of(ACME, rows),
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


def shape_of(hour: Window, held: Sequence[tuple[int, int, int]], gaps: Sequence[Window]) -> Shape | None:
    """The shape of an hour with these stretches (start, end, level) and gaps; None when it is of one level."""
    if len(held) == 1 and held[0][1] - held[0][0] == hour.length_ms:
        return None
    quarters = []
    for quarter in hour.split([hour.start_ms + hour.length_ms // 4 * at for at in range(4)]):
        inside = list(_parts(quarter, held))
        lost = [part for gap in gaps if (part := quarter.intersection(gap))]
        quarters.append(
            (
                sum(part.length_ms * level for part, level in inside),
                sum(part.length_ms for part, _ in inside),
                sum(part.length_ms for part in lost),
                max((level for _, level in inside), default=0),
            )
        )
    levels: dict[int, int] = {end: level for _, end, level in held}
    known = tuple((gap.start_ms, gap.end_ms, levels.get(gap.start_ms)) for gap in gaps)
    return Shape(tuple(quarters), known, held[-1][2] if held else None)


def _parts(window: Window, held: Sequence[tuple[int, int, int]]) -> Iterator[tuple[Window, int]]:
    for start, end, level in held:
        part = window.intersection(Window(start, end))
        if part:
            yield part, level


def seen(
    hour: Window, milli_vcpu: int = 4000, *, until_ms: int | None = None, after_ms: int = 0, cluster: str = "orders"
) -> Seen:
    """A query component held at one level from `after_ms` to `until_ms` of the hour; the rest is missing."""
    start, end = hour.start_ms + after_ms, hour.start_ms + (HOUR_MS if until_ms is None else until_ms)
    return seen_at(hour, [(start, end, milli_vcpu)], cluster)


def nothing_seen(hour: Window) -> Seen:
    """The same component, of which nobody heard in the hour."""
    return seen_at(hour, [])


def seen_at(hour: Window, held: Sequence[tuple[int, int, int]], cluster: str = "orders") -> Seen:
    """The same component held at these levels (start, end, milli-vCPU); the rest of the hour is missing."""
    observed_ms = sum(end - start for start, end, _ in held)
    edges = [hour.start_ms, *(at for start, end, _ in held for at in (start, end)), hour.end_ms]
    gaps = [Window(*pair) for pair in zip(edges[::2], edges[1::2], strict=True) if pair[0] < pair[1]]
    row = ComponentHour(
        component=Component(ProjectId("prod"), ClusterId(cluster), "query"),
        collector=CollectorId("col-a") if held else None,
        milli_vcpu_ms=sum((end - start) * level for start, end, level in held),
        observed_ms=observed_ms,
        missing_ms=hour.length_ms - observed_ms,
        peak_milli_vcpu=max((level for _, _, level in held), default=0),
        open_at_end=True,
        shape=shape_of(hour, held, gaps),
    )
    points = {end: 0 for _, end, _ in held} | {start: level for start, _, level in held}
    return Seen(row, tuple(sorted(points.items())))


def to_seal(hour: Window, *components: Seen, files: str = "a") -> HourToSeal:
    step = StepFunction.sum_of(StepFunction.of(each.points) for each in components).points
    rows = [each.row for each in components]
    digest = sha256(files.encode()).hexdigest()
    return HourToSeal(ACME, hour, rows, step, (f"{files}.parquet {'0' * 64}",), digest, 7, "watermark")
