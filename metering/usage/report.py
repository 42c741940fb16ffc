"""The monthly licence and usage report as a value: what was used, by what, when, and against which capacity. Pure.

Quantities are integers in milli-vCPU times milliseconds; vCPU-hours and vCPU-minutes are exact fractions of them
and are rounded only where they are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import groupby
from zoneinfo import ZoneInfo

from kernel.errors import InvalidInput, Stop
from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.quantity import vcpu_hours, vcpu_minutes
from kernel.steps import StepFunction
from kernel.window import Window, month, parse_zone
from metering.usage.filling import Filled, fill
from metering.usage.model import GapRule, UsageMonth
from metering.usage.reconciliation import Reconciliation
from metering.usage.rows import UsageRow


@dataclass(frozen=True, slots=True)
class ComponentTotal:
    """One component of one cluster over the whole month."""

    project: ProjectId
    cluster: ClusterId
    component: str
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int

    @property
    def vcpu_hours(self) -> Fraction:
        return vcpu_hours(self.milli_vcpu_ms)


@dataclass(frozen=True, slots=True)
class DayTotal:
    """All clusters together on one local day of the report's zone, which may have 23 or 25 hours."""

    day: date
    window: Window
    milli_vcpu_ms: int
    capacity_milli_vcpu_ms: int
    overage_milli_vcpu_ms: int
    peak_milli_vcpu: int
    observed_ms: int
    missing_ms: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest sum over all clusters, and the first time it was reached."""

    milli_vcpu: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class LicenceCoverage:
    """The month's use against the licence capacity at each moment, summed over clusters before it is compared."""

    capacity_milli_vcpu_ms: int
    within_milli_vcpu_ms: int  # integral of min(used, capacity)
    overage_milli_vcpu_ms: int  # integral of max(0, used - capacity)
    over_ms: int  # time in which more was used than the capacity
    length_ms: int

    @property
    def overage_vcpu_minutes(self) -> Fraction:
        return vcpu_minutes(self.overage_milli_vcpu_ms)

    @property
    def over_share(self) -> Fraction:
        """Share of the month's time spent over capacity, 0 to 1."""
        return Fraction(self.over_ms, self.length_ms)

    @property
    def used_share(self) -> Fraction | None:
        """Share of the capacity that was used, 0 to 1; None without any capacity."""
        if self.capacity_milli_vcpu_ms == 0:
            return None
        return Fraction(self.within_milli_vcpu_ms, self.capacity_milli_vcpu_ms)


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive hours in each of which a component was not observed for some time."""

    project: ProjectId
    cluster: ClusterId
    component: str
    window: Window
    missing_ms: int


@dataclass(frozen=True, slots=True)
class MonthlyReport:
    """One organization's month. Equal inputs give an equal report, and equal bytes in every rendering."""

    organization: OrganizationId
    month: str  # YYYY-MM
    zone: str
    window: Window
    revision_digest: str
    sealed: bool
    estimated: Filled | None  # what the contract's gap policy fills in; None: nothing. In none of the other figures
    components: tuple[ComponentTotal, ...]
    days: tuple[DayTotal, ...]
    peak: Peak | None  # None: nothing was used
    coverage: LicenceCoverage | None  # None: no capacity was given
    gaps: tuple[Gap, ...]
    reconciliation: Reconciliation | None = None  # None: nothing was compared

    @property
    def milli_vcpu_ms(self) -> int:
        return sum(total.milli_vcpu_ms for total in self.components)

    @property
    def observed_ms(self) -> int:
        """Component time: two components observed for an hour are two hours."""
        return sum(total.observed_ms for total in self.components)

    @property
    def missing_ms(self) -> int:
        return sum(total.missing_ms for total in self.components)


def monthly_report(
    usage: UsageMonth,
    capacity: StepFunction | None,
    name: str,
    zone: str,
    compared: Reconciliation | None = None,
) -> MonthlyReport:
    """The report of month `name` (YYYY-MM in `zone`) from its usage, the licence capacity in milli-vCPU, and how
    the usage compares with what the provisioner declared.

    Raises InvalidInput when `usage` is of another window, Stop when its rows and its step function disagree.
    """
    window = month(name, zone)
    if usage.window != window:
        wanted = f"{window}, which is {name} in {zone}"
        raise InvalidInput.single("usage report", "window", str(usage.window), wanted)
    _check_agreement(usage)
    days = _with_observation(_days(name, parse_zone(zone), usage.step, capacity or StepFunction()), usage.rows)
    return MonthlyReport(
        organization=usage.organization,
        month=name,
        zone=zone,
        window=window,
        revision_digest=usage.revision_digest,
        sealed=usage.sealed,
        estimated=None,
        components=tuple(_component_totals(usage.rows)),
        days=tuple(days),
        peak=_peak(usage.step, window),
        coverage=None if capacity is None else _coverage(usage.step, capacity, window),
        gaps=tuple(_gaps(usage.rows)),
        reconciliation=compared if compared and compared.hours else None,
    )


def with_estimates(report: MonthlyReport, usage: UsageMonth, rule: GapRule) -> MonthlyReport:
    """The report of `usage` under a contract with that gap policy: estimated hours flagged, apart from the rest."""
    filled = fill(usage, rule)
    return replace(report, estimated=filled if filled.stretches else None)


def _check_agreement(usage: UsageMonth) -> None:
    by_rows = sum(row.milli_vcpu_ms for row in usage.rows)
    by_step = usage.step.integral(usage.window)
    if by_rows != by_step:
        raise Stop(
            f"usage of {usage.organization} in {usage.window}: the rows sum to {by_rows} milli-vCPU*ms and the "
            f"step function to {by_step}; do not bill it, compare the sealed hours with the lake"
        )


def _component_key(row: UsageRow) -> tuple[ProjectId, ClusterId, str]:
    return row.project, row.cluster, row.component


def _component_totals(rows: Iterable[UsageRow]) -> Iterator[ComponentTotal]:
    for (project, cluster, component), group in groupby(sorted(rows, key=_component_key), key=_component_key):
        hours = list(group)
        yield ComponentTotal(
            project,
            cluster,
            component,
            milli_vcpu_ms=sum(row.milli_vcpu_ms for row in hours),
            observed_ms=sum(row.observed_ms for row in hours),
            missing_ms=sum(row.missing_ms for row in hours),
            peak_milli_vcpu=max(row.peak_milli_vcpu for row in hours),
        )


def _days(name: str, zone: ZoneInfo, used: StepFunction, capacity: StepFunction) -> Iterator[DayTotal]:
    over = (used - capacity).positive_part()
    for day in _dates(name):
        window = Window.between(_midnight(day, zone), _midnight(day + timedelta(days=1), zone))
        used_today = _part(used, window)
        yield DayTotal(
            day=day,
            window=window,
            milli_vcpu_ms=used_today.integral(window),
            capacity_milli_vcpu_ms=_part(capacity, window).integral(window),
            overage_milli_vcpu_ms=_part(over, window).integral(window),
            peak_milli_vcpu=used_today.maximum(window),
            observed_ms=0,
            missing_ms=0,
        )


def _dates(name: str) -> Iterator[date]:
    first = date.fromisoformat(name + "-01")
    day = first
    while day.month == first.month:
        yield day
        day += timedelta(days=1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _part(function: StepFunction, window: Window) -> StepFunction:
    """`function` with the points of the window alone: a day costs what happened on it, not the whole month."""
    first = bisect_left(function.points, window.start_ms, key=lambda point: point[0])
    end = bisect_left(function.points, window.end_ms, key=lambda point: point[0])
    return StepFunction.of([(window.start_ms, function.at(window.start_ms)), *function.points[first:end]])


def _with_observation(days: Iterable[DayTotal], rows: Sequence[UsageRow]) -> Iterator[DayTotal]:
    """Days with observed and missing time; an hour belongs to the day in which it starts."""
    ordered = sorted(rows, key=lambda row: row.hour.start_ms)
    for day in days:
        first = bisect_left(ordered, day.window.start_ms, key=lambda row: row.hour.start_ms)
        end = bisect_left(ordered, day.window.end_ms, key=lambda row: row.hour.start_ms)
        yield replace(
            day,
            observed_ms=sum(row.observed_ms for row in ordered[first:end]),
            missing_ms=sum(row.missing_ms for row in ordered[first:end]),
        )


def _peak(used: StepFunction, window: Window) -> Peak | None:
    highest = used.maximum(window)
    if highest == 0:
        return None
    return Peak(highest, next(piece.start_ms for piece, value in used.pieces(window) if value == highest))


def _coverage(used: StepFunction, capacity: StepFunction, window: Window) -> LicenceCoverage:
    over = (used - capacity).positive_part()
    overage = over.integral(window)
    return LicenceCoverage(
        capacity_milli_vcpu_ms=capacity.integral(window),
        within_milli_vcpu_ms=used.integral(window) - overage,
        overage_milli_vcpu_ms=overage,
        over_ms=sum(piece.length_ms for piece, value in over.pieces(window) if value > 0),
        length_ms=window.length_ms,
    )


def _gaps(rows: Iterable[UsageRow]) -> Iterator[Gap]:
    found: Gap | None = None
    for row in sorted(rows, key=lambda row: (_component_key(row), row.hour)):
        if row.missing_ms == 0:
            continue
        if found is not None and _continues(found, row):
            grown = Window(found.window.start_ms, row.hour.end_ms)
            found = replace(found, window=grown, missing_ms=found.missing_ms + row.missing_ms)
            continue
        if found is not None:
            yield found
        found = Gap(row.project, row.cluster, row.component, row.hour, row.missing_ms)
    if found is not None:
        yield found


def _continues(gap: Gap, row: UsageRow) -> bool:
    same = (gap.project, gap.cluster, gap.component) == _component_key(row)
    return same and gap.window.end_ms == row.hour.start_ms
