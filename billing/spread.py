"""Where and when usage was: by local day and by cluster, for the chart and the table of a document. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

from billing.fields import midnight_ms
from kernel.quantity import render_fraction, vcpu_hours
from kernel.steps import StepFunction
from kernel.window import Window, parse_zone
from metering.usage.model import UsageMonth
from metering.usage.rows import UsageRows

_SHOWN_PLACES = 3


def usage_by_day(usage: UsageMonth, commitment: StepFunction, period: Window, zone: str) -> list[dict[str, str]]:
    """Usage of each local day of the period, and how much of it was above the commitment of each moment."""
    days, edges = local_days(period, zone)
    used = integrals(usage.step, edges)
    above = integrals((usage.step - commitment).positive_part(), edges)
    return [
        {"day": day, "milli_vcpu_ms": str(of_day), "above_milli_vcpu_ms": str(over)}
        for day, of_day, over in zip(days, used, above, strict=True)
    ]


def usage_by_cluster(rows: UsageRows) -> list[dict[str, Any]]:
    """Usage, observed and missing time of each cluster; the rows of one cluster add up exactly."""
    return [
        {
            "project": each.project,
            "cluster": each.cluster,
            "milli_vcpu_ms": str(each.milli_vcpu_ms),
            "vcpu_hours": render_fraction(vcpu_hours(each.milli_vcpu_ms), _SHOWN_PLACES),
            "observed_ms": str(each.observed_ms),
            "missing_ms": str(each.missing_ms),
        }
        for each in rows.sums.clusters
    ]


def integrals(step: StepFunction, edges: Sequence[int]) -> list[int]:
    """The integral between each edge and the next, in one pass over the breakpoints."""
    points = iter((*step.points, None))
    following, level, found = next(points), 0, []
    for start, end in pairwise(edges):
        total, at = 0, start
        while following is not None and following[0] < end:
            if following[0] > at:
                total += level * (following[0] - at)
                at = following[0]
            level = following[1]
            following = next(points)
        found.append(total + level * (end - at))
    return found


@lru_cache(maxsize=64)
def local_days(period: Window, zone: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The local days of a period and their edges, one more than days."""
    starts = dict(_midnights(period, zone))
    days = tuple(day.isoformat() for day in starts)
    return days, (*(max(at, period.start_ms) for at in starts.values()), period.end_ms)


def _midnights(period: Window, zone: str) -> Iterator[tuple[date, int]]:
    day = period.start.astimezone(parse_zone(zone)).date()
    while (at := midnight_ms(day, zone)) < period.end_ms:
        yield day, at
        day += timedelta(days=1)
