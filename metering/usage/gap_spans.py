"""Time without data, component by component: the gaps of neighbouring hours joined. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from kernel.window import Window
from metering.usage.rows import UsageRow


@dataclass(frozen=True, slots=True)
class GapSpan:
    """An unbroken stretch in which a component was not observed, as far as is known."""

    project: str
    cluster: str
    component: str
    window: Window  # of hours sealed before places of gaps were kept: the whole hours
    missing_ms: int  # the window's length, or less where the place within it is not known
    milli_vcpu: int | None  # the level just before; None: not known


def gap_spans(rows: Iterable[UsageRow]) -> list[GapSpan]:
    """The gaps of some rows, by component and time. Their missing time is that of the rows together."""
    ordered = sorted(rows, key=lambda row: (_name(row), row.hour.start_ms))
    return [span for _, group in groupby(ordered, _name) for span in _joined(group)]


def _name(row: UsageRow) -> tuple[str, str, str]:
    return row.project, row.cluster, row.component


def _joined(rows: Iterable[UsageRow]) -> Iterator[GapSpan]:
    last: GapSpan | None = None
    for span in (span for row in rows for span in _of_row(row)):
        if last is not None and last.window.end_ms == span.window.start_ms and last.milli_vcpu == span.milli_vcpu:
            window = Window(last.window.start_ms, span.window.end_ms)
            last = replace(last, window=window, missing_ms=last.missing_ms + span.missing_ms)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def _of_row(row: UsageRow) -> Iterator[GapSpan]:
    if row.missing_ms and not row.gaps:
        yield GapSpan(*_name(row), row.hour, row.missing_ms, None)
    for gap in row.gaps:
        yield GapSpan(*_name(row), gap.window, gap.window.length_ms, gap.milli_vcpu)
