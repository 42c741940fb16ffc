"""The invoice's rows against hours that were computed again from kept frames."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from billing.proof.changes import Changes
from billing.proof.compared import Given
from billing.proof.gaps_again import ComparedGaps, component_of
from billing.proof.metered_again import Spared
from billing.proof.rows import ROWS
from kernel.window import Window, hour_of
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.pieces import Figures, cut, pieces_of
from metering.usage.rows import UsageRow


class ComparedRows:
    """`gaps`: is told of each row that is as computed, and of each that need not be. Raises InvalidInput."""

    def __init__(self, given: Given, spared: Spared, gaps: ComparedGaps) -> None:
        self._given, self._spared, self._gaps = given, spared, gaps
        self.changes = Changes(given)
        self._rows: dict[int, dict[Component, tuple[int, UsageRow]]] = defaultdict(dict)
        self.count = 0
        for line, row in enumerate(given.usage.rows, 1):
            if row.hour.intersection(given.window) is None:
                continue
            component, of_hour = component_of(row), self._rows[hour_of(row.hour.start_ms).start_ms]
            if component in of_hour:
                allowed = f"line {of_hour[component][0]} alone"
                raise given.wrong(ROWS, f"line {line}", "a component and hour twice", allowed)
            of_hour[component] = line, row
            self.count += 1
        self._left: Counter[tuple[str, str]] = Counter()
        self.before: set[Component] = set()
        self.equal = 0

    def of_hour(self, hour: Window) -> list[UsageRow]:
        """What the invoice says of an hour."""
        return [row for _, row in self._rows.get(hour.start_ms, {}).values()]

    def first(self, hour: Window) -> frozenset[Component]:
        """The components with a row of this hour, but those that an absent collector may have seen."""
        known = self._rows.get(hour.start_ms, ())
        return frozenset(component for component in known if component.project not in self._spared.projects)

    def compare(self, hour: Window, found: Sequence[ComponentHour]) -> None:
        """Raises InvalidInput for the first row that is not what was computed, or that no frame was seen of."""
        rows = dict(self._rows.get(hour.start_ms, {}))
        for one in self._in_period(hour, found):
            known = rows.pop(one.component, None)
            if known is None:
                where = f"{one.component.cluster} {one.component.name}, hour of {hour.start.isoformat()}"
                raise self._given.wrong(ROWS, where, "no row", f"{figures(one)}, by the kept frames")
            line, row = known
            why = self._spared.why(row.project, row.sources)
            if figures(row) == figures(one):
                self.equal += 1
                self.changes.prove(row)
                self._gaps.compare(row, why)
            elif not self._excuse(row, one.observed_ms):
                allowed = f"{figures(one)}, by the kept frames"
                raise self._given.wrong(ROWS, f"line {line}", figures(row), allowed)
        for line, row in sorted(rows.values(), key=lambda one: one[0]):
            if not self._excuse(row, 0):
                raise self._given.wrong(ROWS, f"line {line}", figures(row), "rows of what the kept frames hold")

    def unproved(self) -> list[str]:
        """In words."""
        left = [
            f"hours: {count} rows of project {project}: {why}"
            for (project, why), count in sorted(self._left.items())
        ]
        return left + [
            f"hours: that {one.name} of cluster {one.cluster} existed before: no kept frame of two days says so"
            for one in sorted(self.before)
        ]

    def _in_period(self, hour: Window, found: Sequence[ComponentHour]) -> Iterator[ComponentHour]:
        """What was computed of an hour, cut to the period, which may begin inside it."""
        inside = hour.intersection(self._given.window)
        for one in found:
            if inside is None or inside == hour:
                yield one
                continue
            whole = Figures(one.milli_vcpu_ms, one.observed_ms, one.missing_ms, one.peak_milli_vcpu)
            part = cut(whole, pieces_of(one.shape, hour, None) if one.shape else None, hour, inside)
            if part and (part.observed_ms or part.missing_ms):
                yield one._replace(
                    milli_vcpu_ms=part.milli_vcpu_ms,
                    observed_ms=part.observed_ms,
                    missing_ms=part.missing_ms,
                    peak_milli_vcpu=part.peak_milli_vcpu,
                )

    def _excuse(self, row: UsageRow, observed_ms: int) -> bool:
        """Why a row may differ; counted. Another collector's view counts only if it observed at least as much."""
        by_project, by_source = self._spared.why(row.project, ()), self._spared.why("", row.sources)
        why = (by_project if row.observed_ms >= observed_ms else None) or by_source
        if why is None:
            return False
        self._left[row.project, why] += 1
        self._gaps.pass_over(row, why)
        return True


def figures(one: UsageRow | ComponentHour) -> str:
    """The integers of a row in words: milli-vCPU times milliseconds, milliseconds, milli-vCPU."""
    return (
        f"{one.milli_vcpu_ms} milli-vCPU-ms, {one.observed_ms} ms observed, {one.missing_ms} ms missing, "
        f"peak {one.peak_milli_vcpu}"
    )
