"""The gaps that an invoice states, for a contract that has them filled, against those that the kept frames give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from billing.proof.compared import Given
from kernel.window import Window
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.pieces import Before, Pieces, beginnings_after, pieces_of
from metering.usage.rows import UsageGap, UsageRow

_UNKNOWN = "no kept frame of two days before shows the level before them"
_UNSTATED = "their place is not stated, so nothing is filled there"


class ComparedGaps:
    """Place, beginning and level before, of each gap of `usage.gaps`; nothing where the invoice states none."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._last: tuple[Window, Sequence[ComponentHour]] | None = None
        self._pieces: Mapping[Component, Pieces] = {}
        self._doubted: dict[Component, str] = {}  # whose last hours others may have seen otherwise, and why
        self._left: Counter[str] = Counter()
        self._equal = 0

    def follow(self, hour: Window, found: Sequence[ComponentHour]) -> None:
        """The next hour as it was computed, from some time before the period on: gaps go on from hour to hour."""
        if not self._given.fills_gaps:
            return
        shapes = [(one.component, one.shape) for one in found if one.shape]
        beginnings: Mapping[Component, Before] = {}
        if self._last is not None and any(one.gaps and one.gaps[0][0] == hour.start_ms for _, one in shapes):
            beginnings = beginnings_after(*self._last, self._pieces)
        self._pieces = {name: pieces_of(shape, hour, beginnings.get(name)) for name, shape in shapes}
        self._last = hour, found

    def compare(self, row: UsageRow, why: str | None) -> None:
        """A row of that hour whose figures are as computed. `why`: its gaps may differ nevertheless.

        Raises InvalidInput naming row and hour.
        """
        if not self._given.fills_gaps:
            return
        component = component_of(row)
        pieces = self._pieces.get(component)
        computed = _within(pieces.gaps if pieces and row.missing_ms else (), row.hour)
        stated = sorted(row.gaps, key=lambda gap: gap.window)
        if stated == computed:
            self._equal += len(stated)
        elif reason := why or self._reason(component, stated, computed, row.hour):
            self._left[reason] += 1
        else:
            where = f"{row.cluster} {row.component}, {row.hour}"
            raise self._given.wrong_gaps(where, _told(stated), f"{_told(computed)}, by the kept frames")
        if why is not None:
            self._doubted[component] = why
        elif row.observed_ms:
            self._doubted.pop(component, None)

    def pass_over(self, row: UsageRow, why: str) -> None:
        """A row that differs from what was computed, and may."""
        if self._given.fills_gaps:
            self._doubted[component_of(row)] = why
            self._left[why] += bool(row.missing_ms)

    def proved(self) -> list[str]:
        """In words."""
        text = f"gaps: {self._equal} parts of gaps have place, beginning and level before from the frames"
        return [text] if self._given.fills_gaps else []

    def unproved(self) -> list[str]:
        """In words."""
        return [f"gaps: those of {count} rows: {why}" for why, count in sorted(self._left.items())]

    def _reason(
        self, component: Component, stated: Sequence[UsageGap], computed: Sequence[UsageGap], hour: Window
    ) -> str | None:
        """Why gaps of an hour that the frames give may be stated otherwise; None: they may not."""
        if not stated:
            return _UNSTATED
        first = computed[0] if computed and computed[0].window.start_ms == hour.start_ms else None
        is_else_alike = first is not None and stated == [
            replace(first, since_ms=stated[0].since_ms, milli_vcpu=stated[0].milli_vcpu),
            *computed[1:],
        ]
        if first is None or not is_else_alike:
            return None
        return self._doubted.get(component) or (_UNKNOWN if first.milli_vcpu is None else None)


def component_of(row: UsageRow) -> Component:
    """Whose row it is."""
    return Component(row.project, row.cluster, row.component)


def _within(gaps: Iterable[UsageGap], hour: Window) -> list[UsageGap]:
    parts = ((gap, gap.window.intersection(hour)) for gap in gaps)
    return [replace(gap, window=part) for gap, part in parts if part]


def _told(gaps: Iterable[UsageGap]) -> str:
    told = (
        f"{gap.window.start_ms} to {gap.window.end_ms} ms, since {gap.since_ms}, "
        f"{'of no known level' if gap.milli_vcpu is None else f'{gap.milli_vcpu} milli-vCPU before'}"
        for gap in gaps
    )
    return "; ".join(told) or "none"
