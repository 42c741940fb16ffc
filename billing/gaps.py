"""Gaps of the usage as a document states them where its contract has them filled: what filling is made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from kernel.errors import InvalidInput
from kernel.window import Window
from metering.usage.rows import UsageGap, UsageRow, UsageRows

_Key = tuple[str, str, str]


def render_gaps(rows: UsageRows) -> list[dict[str, str | None]]:
    """The gaps of the rows, those that go on over several hours as one, by component and time."""
    if not rows.sums.missing_ms:  # then nobody need look at the rows
        return []
    by_component: dict[_Key, list[UsageGap]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.hour):
        for gap in row.gaps:
            whole = by_component[row.project, row.cluster, row.component]
            if whole and whole[-1].window.end_ms == gap.window.start_ms and _same(whole[-1], gap):
                whole[-1] = replace(gap, window=Window(whole[-1].window.start_ms, gap.window.end_ms))
            else:
                whole.append(gap)
    return [_stated(key, gap) for key, gaps in sorted(by_component.items()) for gap in gaps]


def with_gaps(
    rows: Iterable[UsageRow], stated: Iterable[Mapping[str, str | None]], source: str, place: str = "usage"
) -> tuple[UsageRow, ...]:
    """The rows with what was stated of them, at `place` of the document `source`.

    Raises InvalidInput when gaps are not the time a row is missing.
    """
    by_component: dict[_Key, list[UsageGap]] = defaultdict(list)
    for each in stated:
        window = Window(int(str(each["start_ms"])), int(str(each["end_ms"])))
        level = None if each["milli_vcpu"] is None else int(each["milli_vcpu"])
        gap = UsageGap(window, int(str(each["since_ms"])), level)
        by_component[str(each["project"]), str(each["cluster"]), str(each["component"])].append(gap)
    found = []
    for row in rows:
        of_component = by_component.get((row.project, row.cluster, row.component))
        if not of_component and not row.gaps:
            found.append(row)
            continue
        gaps = tuple(_inside(of_component or (), row.hour))
        if sum(gap.window.length_ms for gap in gaps) not in (0, row.missing_ms):
            where, allowed = (
                f"{place}.gaps of {row.cluster} {row.component}, {row.hour}",
                f"{row.missing_ms} ms in all",
            )
            raise InvalidInput.single(source, where, "another length", allowed)
        found.append(replace(row, gaps=gaps))
    return tuple(found)


def _same(before: UsageGap, after: UsageGap) -> bool:
    return (before.since_ms, before.milli_vcpu) == (after.since_ms, after.milli_vcpu)


def _stated(key: _Key, gap: UsageGap) -> dict[str, str | None]:
    project, cluster, component = key
    return {
        "project": project,
        "cluster": cluster,
        "component": component,
        "start_ms": str(gap.window.start_ms),
        "end_ms": str(gap.window.end_ms),
        "since_ms": str(gap.since_ms),
        "milli_vcpu": None if gap.milli_vcpu is None else str(gap.milli_vcpu),
    }


def _inside(gaps: Iterable[UsageGap], hour: Window) -> Iterator[UsageGap]:
    for gap in gaps:
        part = gap.window.intersection(hour)
        if part:
            yield replace(gap, window=part)
