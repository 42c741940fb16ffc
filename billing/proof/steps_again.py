"""The organization's levels inside each hour against those that the kept frames give, moment by moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from billing.proof.compared import Given
from billing.proof.metered_again import Spared
from billing.proof.rows import STEPS
from kernel.clock import from_ms
from kernel.errors import InvalidInput
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.hours import UsageHour
from metering.usage.rows import UsageRow

_FRAMES = "by the kept frames"
_MOST_SPANS = 3


class ComparedSteps:
    """`steps.json` hour by hour. Where rows may differ, as others may have seen more, levels are bounded alone."""

    def __init__(self, given: Given, spared: Spared) -> None:
        self._given, self._spared = given, spared
        self._bounded: dict[str, list[Window]] = defaultdict(list)
        self._count = self._equal = 0

    def compare(
        self, hour: Window, rows: Sequence[UsageRow], found: UsageHour, certain: Callable[[], UsageHour]
    ) -> None:
        """`rows`: the invoice's; `certain`: the hour without the projects that rows are spared of.

        Raises InvalidInput naming the first moment (UTC) at which the level (milli-vCPU) is another.
        """
        inside = hour.intersection(self._given.window)
        if inside is None:
            return
        self._count += 1
        stated, computed = (
            step.within(inside) for step in (self._given.usage.step, StepFunction(tuple(found.step)))
        )
        if stated == computed:
            self._equal += 1
            return
        reasons = {why for row in rows if (why := self._spared.why(row.project, row.sources))}
        if not reasons:
            raise self._differs(stated, computed, 0, inside)
        rest = [row for row in rows if row.project in self._spared.projects]
        least = StepFunction(tuple(certain().step)).within(inside)
        if any(self._spared.why("", row.sources) for row in rows):
            rest, least = list(rows), StepFunction()  # what a backfill changed, nobody here knows
        room = sum(row.peak_milli_vcpu for row in rest)
        if any(not 0 <= more <= room for _, more in (stated - least).pieces(inside)):
            raise self._differs(stated, least, room, inside)
        for why in reasons:
            self._bounded[why].append(inside)

    def proved(self) -> str:
        """In words."""
        many = f"{self._equal} of {self._count}"
        return f"steps: {many} hours have, at each moment, the level that the frames give"

    def unproved(self) -> list[str]:
        """In words."""
        return [
            f"steps: {len(hours)} hours ({_spans(hours)}): their levels are only known to be at least "
            f"what the given frames hold, and at most that and the peaks of the other rows: {why}"
            for why, hours in sorted(self._bounded.items())
        ]

    def _differs(self, stated: StepFunction, least: StepFunction, room: int, inside: Window) -> InvalidInput:
        beyond = (part for part, more in (stated - least).pieces(inside) if not 0 <= more <= room)
        at_ms = next(iter(beyond)).start_ms
        low = least.at(at_ms)
        allowed = f"{low} to {low + room} milli-vCPU, {_FRAMES} and the other rows' peaks"
        if not room:
            allowed = f"{low} milli-vCPU, {_FRAMES}"
        where = f"from {from_ms(at_ms).isoformat()}"
        return self._given.wrong(STEPS, where, f"{stated.at(at_ms)} milli-vCPU", allowed)


def _spans(hours: Sequence[Window]) -> str:
    """Hours in order as text, those that follow each other as one."""
    spans: list[Window] = []
    for hour in hours:
        if spans and spans[-1].end_ms == hour.start_ms:
            spans[-1] = Window(spans[-1].start_ms, hour.end_ms)
        else:
            spans.append(hour)
    named = [f"{span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}" for span in spans[:_MOST_SPANS]]
    more = [f"{len(spans) - _MOST_SPANS} spans more"] if len(spans) > _MOST_SPANS else []
    return ", ".join(named + more)
