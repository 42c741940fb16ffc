"""What is kept of a component's hour that is not one level from end to end: quarters, gaps, the last level.

Quarters, because the months of some zones (+05:30, +05:45) begin inside a UTC hour; gaps with the level before
them, because a contract may have them filled. An hour that is one level throughout needs neither. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kernel.window import HOUR_MS, QUARTER_MS, Window
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.rows import UsageGap
from metering.usage.shapes import Shape


@dataclass(frozen=True, slots=True)
class Figures:
    """The integers of an hour or of a part of it."""

    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int


@dataclass(frozen=True, slots=True)
class Before:
    """How an hour begins: the last level observed by then (None: not known), and since when it is not any more."""

    milli_vcpu: int | None
    since_ms: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """`last`: the last level that was held by the end of the hour, None if none is known."""

    quarters: tuple[Figures, ...]  # four
    gaps: tuple[UsageGap, ...]
    last: int | None

    def before(self, hour: Window) -> Before:
        """How the hour after this one begins."""
        if self.gaps and self.gaps[-1].window.end_ms == hour.end_ms:
            return Before(self.gaps[-1].milli_vcpu, self.gaps[-1].since_ms)
        return Before(self.last, hour.end_ms)


def is_one_level(whole: Figures) -> bool:
    """Whether the hour's integers say all: observed throughout, and never below its peak."""
    return whole.observed_ms == HOUR_MS and whole.milli_vcpu_ms == whole.peak_milli_vcpu * HOUR_MS


def pieces_of(shape: Shape, hour: Window, before: Before | None) -> Pieces:
    """What to keep of it. `before` is how the hour began, None: not known."""
    at_start = before or Before(None, hour.start_ms)
    gaps = tuple(
        UsageGap(Window(start, end), at_start.since_ms, at_start.milli_vcpu)
        if start == hour.start_ms
        else UsageGap(Window(start, end), start, level)
        for start, end, level in shape.gaps
    )
    last = at_start.milli_vcpu if shape.last is None else shape.last
    return Pieces(tuple(Figures(*quarter) for quarter in shape.quarters), gaps, last)


def cut(whole: Figures, pieces: Pieces | None, hour: Window, inside: Window) -> Figures | None:
    """The integers of a part of the hour that is cut at quarters; None when too little was kept of it."""
    if is_one_level(whole):
        length = inside.length_ms
        return Figures(whole.peak_milli_vcpu * length, length, 0, whole.peak_milli_vcpu)
    if whole.missing_ms == HOUR_MS:
        return Figures(0, 0, inside.length_ms, 0)
    if pieces is None:
        return None
    first, end = ((at - hour.start_ms) // QUARTER_MS for at in (inside.start_ms, inside.end_ms))
    chosen = pieces.quarters[first:end]
    return Figures(
        sum(each.milli_vcpu_ms for each in chosen),
        sum(each.observed_ms for each in chosen),
        sum(each.missing_ms for each in chosen),
        max(each.peak_milli_vcpu for each in chosen),
    )


def beginnings_after(
    hour: Window, components: Iterable[ComponentHour], pieces: Mapping[Component, Pieces]
) -> dict[Component, Before]:
    """How the hour after `hour` begins for each of its components; `pieces`: of those with a shape."""
    return {
        found.component: pieces[found.component].before(hour)
        if found.shape
        else Before(found.peak_milli_vcpu, hour.end_ms)
        for found in components
    }


def render_pieces(pieces: Pieces) -> str:
    """As it is stored."""
    quarters = [
        [each.milli_vcpu_ms, each.observed_ms, each.missing_ms, each.peak_milli_vcpu] for each in pieces.quarters
    ]
    gaps = [[gap.window.start_ms, gap.window.end_ms, gap.since_ms, gap.milli_vcpu] for gap in pieces.gaps]
    return json.dumps({"quarters": quarters, "gaps": gaps, "last": pieces.last}, separators=(",", ":"))


def parse_pieces(text: str) -> Pieces:
    """What was stored."""
    stored = json.loads(text)
    gaps = (UsageGap(Window(start, end), since, level) for start, end, since, level in stored["gaps"])
    return Pieces(tuple(Figures(*each) for each in stored["quarters"]), tuple(gaps), stored["last"])
