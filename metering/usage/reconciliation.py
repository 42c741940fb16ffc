"""Scraped usage against what the provisioner declared, for each cluster and hour. Pure.

Two records that nobody made from each other: what the collectors scraped, and the transitions of state that the
provisioner wrote down. While an operation runs, a cluster may hold anything between two levels; so what was
declared of an hour is a range, and usage outside it by more than the tolerance is a difference.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from fractions import Fraction
from itertools import groupby
from typing import Protocol

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.steps import StepFunction
from kernel.window import Window, hour_of
from metering.usage.rows import UsageRow


@dataclass(frozen=True, slots=True)
class Level:
    """From `at_ms` on the cluster's licensed components hold between `least` and `most` milli-vCPU."""

    at_ms: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class DeclaredCluster:
    """A cluster as the provisioner knows it: `levels` in order of time, nothing before the first.

    Nothing is known of the time before `known_from_ms`, when the record was begun after the cluster was.
    """

    project: ProjectId
    cluster: ClusterId
    levels: tuple[Level, ...]
    known_from_ms: int = 0


class DeclaredUsage(Protocol):
    """Where what was declared comes from."""

    def declared(self, organization: OrganizationId) -> Sequence[DeclaredCluster]:
        """Every cluster that the organization has or had. Blocks."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A difference counts above both `absolute` (milli-vCPU times ms) and a share `relative` of the declared.

    `edge_ms` before and after each transition either level is right: one scrape interval, and clocks that differ.
    """

    absolute: int
    relative: Fraction
    edge_ms: int

    def allowed(self, declared: int) -> int:
        """How far usage may be outside of the range, milli-vCPU times ms."""
        return max(self.absolute, int(self.relative * declared))


class Difference(StrEnum):
    """Why a cluster's hour is not reconciled."""

    UNKNOWN = "unknown"
    MORE = "more"
    LESS = "less"
    MISSING = "missing"
    NOT_PROVISIONED = "not-provisioned"

    @property
    def meaning(self) -> str:
        """For people."""
        return _MEANINGS[self]


_MEANINGS = {
    Difference.UNKNOWN: "the provisioner has no such cluster in that project",
    Difference.MORE: "more was scraped than was declared to run",
    Difference.LESS: "less was scraped than was declared to run, and missing time does not explain it",
    Difference.MISSING: "less was scraped than was declared to run, and missing time may explain it",
    Difference.NOT_PROVISIONED: "not of this provisioner (usage.reconcile_not_provisioned): stated, no finding",
}


@dataclass(frozen=True, slots=True)
class ClusterHour:
    """One cluster in one hour; quantities in milli-vCPU times ms. `revision` is the usage's that was compared."""

    project: ProjectId
    cluster: ClusterId
    hour: Window
    revision: int
    scraped: int
    missing_ms: int  # the longest of any of its components
    least: int
    most: int
    difference: Difference | None

    @property
    def is_reconciled(self) -> bool:
        return self.difference is None

    @property
    def is_compared(self) -> bool:
        """There was a record to compare with, or there should have been one."""
        return self.difference is not Difference.NOT_PROVISIONED

    @property
    def outside(self) -> int:
        """How far the usage is above the range, or below it (negative)."""
        return max(0, self.scraped - self.most) - max(0, self.least - self.scraped)


@dataclass(frozen=True, slots=True)
class DifferenceSpan:
    """Consecutive hours of one cluster with the same kind of difference."""

    project: ProjectId
    cluster: ClusterId
    window: Window
    difference: Difference
    hours: int
    scraped: int
    least: int
    most: int
    outside: int  # the sum over its hours: above (positive) or below what was declared


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What is known of a window: each cluster's hours that were compared, with the newest revision of each."""

    hours: tuple[ClusterHour, ...] = ()

    @property
    def differing(self) -> int:
        """Cluster-hours that were compared and are not reconciled."""
        return sum(hour.is_compared and not hour.is_reconciled for hour in self.hours)

    @property
    def compared(self) -> int:
        """Cluster-hours that were compared: without those that are not of the provisioner."""
        return sum(hour.is_compared for hour in self.hours)

    def flags(self) -> Mapping[tuple[ProjectId, ClusterId, int], tuple[int, bool]]:
        """By project, cluster and start of the hour: which usage revision was compared, and whether it agreed."""
        return {
            (one.project, one.cluster, one.hour.start_ms): (one.revision, one.is_reconciled)
            for one in self.hours
            if one.is_compared
        }

    def spans(self) -> tuple[DifferenceSpan, ...]:
        """The differences, by cluster and time."""
        return tuple(_spans(self.hours))


def is_reconciled(row: UsageRow, flags: Mapping[tuple[ProjectId, ClusterId, int], tuple[int, bool]]) -> bool | None:
    """The flag of a usage row; None while this revision of its hour was not compared."""
    start_ms = hour_of(row.hour.start_ms).start_ms  # a month may begin inside an hour, and its row is then a piece
    revision, agreed = flags.get((row.project, row.cluster, start_ms), (0, False))
    return agreed if revision == row.revision else None


def reconcile(
    rows: Iterable[UsageRow],
    revisions: Mapping[int, int],
    declared: Sequence[DeclaredCluster],
    tolerance: Tolerance,
    not_provisioned: Sequence[str] = (),
) -> Reconciliation:
    """Compare every closed hour: `revisions` has the newest revision of each, by its start, `rows` their rows.

    A cluster that was declared to run and has no row is compared too. Hours before anything is known of a cluster
    are left out. `not_provisioned` are patterns of `PROJECT/CLUSTER`; what is declared is compared anyway.
    """
    by_cluster: dict[tuple[ProjectId, ClusterId], dict[int, list[UsageRow]]] = {}
    for row in rows:
        by_cluster.setdefault((row.project, row.cluster), {}).setdefault(row.hour.start_ms, []).append(row)
    known = {(one.project, one.cluster): one for one in declared}
    found: list[ClusterHour] = []
    for key in sorted({*by_cluster, *known}):
        used = by_cluster.get(key, {})
        if key in known:
            found += _compare(known[key], used, revisions, tolerance)
        else:
            is_ours = not any(fnmatchcase("/".join(key), pattern) for pattern in not_provisioned)
            why = Difference.UNKNOWN if is_ours else Difference.NOT_PROVISIONED
            hours = [_cluster_hour(key, of_hour[0].hour, of_hour, None, tolerance) for of_hour in used.values()]
            found += [replace(hour, difference=why) for hour in hours]
    return Reconciliation(tuple(sorted(found, key=lambda one: (one.hour, one.project, one.cluster))))


@dataclass(frozen=True, slots=True)
class _Range:
    least: int
    most: int
    highest: int  # the highest level of the hour, milli-vCPU


def _compare(
    declared: DeclaredCluster,
    used: Mapping[int, list[UsageRow]],
    revisions: Mapping[int, int],
    tolerance: Tolerance,
) -> Iterator[ClusterHour]:
    least, most = declared_range(declared.levels, tolerance.edge_ms)
    for start_ms, revision in sorted(revisions.items()):
        if start_ms < declared.known_from_ms:
            continue
        hour = hour_of(start_ms)
        here = _Range(least.integral(hour), most.integral(hour), most.maximum(hour))
        rows = used.get(start_ms, [])
        if rows or here.most:
            key = (declared.project, declared.cluster)
            yield _cluster_hour(key, hour, rows, here, tolerance, revision)


def _cluster_hour(
    key: tuple[ProjectId, ClusterId],
    hour: Window,
    rows: Sequence[UsageRow],
    declared: _Range | None,
    tolerance: Tolerance,
    revision: int = 0,
) -> ClusterHour:
    scraped = sum(row.milli_vcpu_ms for row in rows)
    missing_ms = max((row.missing_ms for row in rows), default=0)
    here = declared or _Range(0, 0, 0)
    difference = None if declared else Difference.UNKNOWN
    if declared and scraped > here.most + tolerance.allowed(here.most):
        difference = Difference.MORE
    elif declared and scraped < here.least - tolerance.allowed(here.least):
        explained = scraped + missing_ms * here.highest >= here.least - tolerance.allowed(here.least)
        difference = Difference.MISSING if explained else Difference.LESS
    newest = revision or max(row.revision for row in rows)
    return ClusterHour(*key, hour, newest, scraped, missing_ms, here.least, here.most, difference)


def declared_range(levels: Sequence[Level], edge_ms: int) -> tuple[StepFunction, StepFunction]:
    """The least and the most that may have run; within `edge_ms` of a transition either level is right."""
    times = [level.at_ms for level in levels]
    ranges = [(0, 0), *((level.least, level.most) for level in levels)]
    least, most = [], []
    for at_ms in sorted({time + shift for time in times for shift in (-edge_ms, edge_ms)}):
        first, last = bisect_right(times, at_ms - edge_ms), bisect_right(times, at_ms + edge_ms)
        possible = ranges[first : last + 1]
        least.append((at_ms, min(low for low, _ in possible)))
        most.append((at_ms, max(high for _, high in possible)))
    return StepFunction.of(least), StepFunction.of(most)


def _spans(hours: Iterable[ClusterHour]) -> Iterator[DifferenceSpan]:
    def key(one: ClusterHour) -> tuple[ProjectId, ClusterId]:
        return one.project, one.cluster

    differing = sorted((one for one in hours if one.difference), key=lambda one: (*key(one), one.hour))
    for _, of_cluster in groupby(differing, key):
        run: list[ClusterHour] = []
        for one in of_cluster:
            if run and (run[-1].hour.end_ms != one.hour.start_ms or run[-1].difference is not one.difference):
                yield _span(run)
                run = []
            run.append(one)
        yield _span(run)


def _span(run: Sequence[ClusterHour]) -> DifferenceSpan:
    first = run[0]
    assert first.difference is not None
    return DifferenceSpan(
        first.project,
        first.cluster,
        Window(first.hour.start_ms, run[-1].hour.end_ms),
        first.difference,
        len(run),
        sum(one.scraped for one in run),
        sum(one.least for one in run),
        sum(one.most for one in run),
        sum(one.outside for one in run),
    )
