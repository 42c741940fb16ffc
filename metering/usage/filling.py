"""What a contract's gap policy makes of missing time. From sealed rows alone, pure, in exact integers.

- `not-billed`: nothing; missing time holds no usage;
- `hold-last`: the component's last observed level before the gap goes on;
- `estimate`: its mean level over the observed time of the two neighbouring hours of the period: the last with any
  at or before the gap's hour, and the first at or after it. An hour that was partly observed is both. Half-up to a
  whole milli-vCPU. Without a neighbour on one side the other alone; without any, the last level before the gap.

A gap is filled for so long from its beginning and no longer, and only where a level is known. What is filled is
kept apart from what was observed; data that arrives later makes another revision, without the gap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kernel.ids import ClusterId, ProjectId
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.model import GapRule, UsageMonth
from metering.usage.rows import UsageRow


@dataclass(frozen=True, slots=True)
class FilledGap:
    """A stretch in which a component counts at a level that was not observed."""

    project: ProjectId
    cluster: ClusterId
    component: str
    window: Window
    milli_vcpu: int


@dataclass(frozen=True, slots=True)
class Filled:
    """A month with its gaps filled: `step` is what was observed and `stretches` together, over all clusters."""

    step: StepFunction
    stretches: tuple[FilledGap, ...]

    @property
    def estimated_ms(self) -> int:
        """Component time: two components filled for an hour are two hours."""
        return sum(each.window.length_ms for each in self.stretches)

    @property
    def milli_vcpu_ms(self) -> int:
        """What was filled in, over all clusters."""
        return sum(each.milli_vcpu * each.window.length_ms for each in self.stretches)


def estimated_by_row(filled: Filled, rows: Sequence[UsageRow]) -> list[int]:
    """The estimated milliseconds of each row, in their order."""
    stretches: dict[tuple[ProjectId, ClusterId, str], list[Window]] = defaultdict(list)
    for each in filled.stretches:
        stretches[each.project, each.cluster, each.component].append(each.window)
    found = []
    for row in rows:
        parts = (row.hour.intersection(one) for one in stretches.get((row.project, row.cluster, row.component), ()))
        found.append(sum(part.length_ms for part in parts if part))
    return found


def fill(usage: UsageMonth, rule: GapRule) -> Filled:
    """The month by that rule. The same rows give the same result, in whatever order."""
    if rule.policy == "not-billed" or not usage.rows.sums.missing_ms:  # then nobody need look at the rows
        return Filled(usage.step, ())
    hours = _by_component(usage.rows)
    stretches = tuple(_joined(_stretches(usage.rows, rule, hours)))
    added = (StepFunction.constant(each.window, each.milli_vcpu) for each in stretches)
    return Filled(StepFunction.sum_of((usage.step, *added)), stretches)


_Hours = Mapping[tuple[ProjectId, ClusterId, str], Sequence[UsageRow]]


def _by_component(rows: Iterable[UsageRow]) -> _Hours:
    """The hours of each component that has a gap, in order, those without any observed time left out."""
    with_gaps = {(row.project, row.cluster, row.component) for row in rows if row.gaps}
    found: dict[tuple[ProjectId, ClusterId, str], list[UsageRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.hour):
        key = row.project, row.cluster, row.component
        if key in with_gaps and row.observed_ms:
            found[key].append(row)
    return found


def _stretches(rows: Iterable[UsageRow], rule: GapRule, hours: _Hours) -> Iterator[FilledGap]:
    for row in rows:
        key = row.project, row.cluster, row.component
        for gap in row.gaps:
            window = rule.reach(gap)
            level = gap.milli_vcpu
            if window and rule.policy == "estimate":
                level = _mean_of_neighbours(hours.get(key, ()), row.hour, level)
            if window and level is not None:
                yield FilledGap(*key, window, level)


def _mean_of_neighbours(hours: Sequence[UsageRow], hour: Window, otherwise: int | None) -> int | None:
    earlier = bisect_right(hours, hour.start_ms, key=lambda row: row.hour.start_ms)
    later = bisect_left(hours, hour.start_ms, key=lambda row: row.hour.start_ms)
    chosen = {id(row): row for row in (*hours[max(0, earlier - 1) : earlier], *hours[later : later + 1])}.values()
    observed_ms = sum(row.observed_ms for row in chosen)
    if not observed_ms:
        return otherwise
    return (2 * sum(row.milli_vcpu_ms for row in chosen) + observed_ms) // (2 * observed_ms)


def _joined(stretches: Iterable[FilledGap]) -> Iterator[FilledGap]:
    """Stretches of one level that follow one another as one, by component and time."""
    before: FilledGap | None = None
    for each in sorted(stretches, key=lambda one: (one.project, one.cluster, one.component, one.window)):
        if before and each == replace(before, window=each.window) and before.window.end_ms == each.window.start_ms:
            before = replace(before, window=Window(before.window.start_ms, each.window.end_ms))
            continue
        if before:
            yield before
        before = each
    if before:
        yield before
