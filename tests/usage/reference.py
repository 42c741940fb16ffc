"""Hours component by component and hour by hour, with the functions of one gauge: what the arrays are judged by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, CollectorId, ProjectId, parse_id
from kernel.window import Window
from metering.record import STALE_NAN_BITS, LabelSet, parse_canonical_labels
from metering.usage.meter import TARGET_UP, Component, GaugeMeter
from tests.usage.presence import GaugeSamples, Held, Int64, hold, missing, open_at, union


@dataclass(frozen=True, slots=True)
class ComponentHour:
    """One component in one hour, by the collector that covered it best."""

    component: Component
    collector: CollectorId | None  # None: nobody has seen it in the span
    milli_vcpu_ms: int
    observed_ms: int
    missing_ms: int
    peak_milli_vcpu: int
    points: tuple[tuple[int, int], ...]  # breakpoints of its level inside the hour
    open_at_end: bool
    held: tuple[tuple[int, int, int], ...] = ()  # start, end, level
    gaps: tuple[Window, ...] = ()


@dataclass(slots=True)
class _Source:
    """One component as one collector saw it."""

    held: list[Held] = field(default_factory=list)
    ended_ms: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _View:
    """The same, its series made one, with bisection by hour."""

    collector: CollectorId
    held: Held
    ended_ms: Int64

    def cut(self, hour: Window) -> _View:
        """What this collector says of the hour, by stretches and endings that touch it and nothing else.

        So an hour gives the same result whatever other hours are computed with it.
        """
        first, end = np.searchsorted(self.ended_ms, [hour.start_ms, hour.end_ms], side="left").tolist()
        return _View(self.collector, self.held.cut(hour), self.ended_ms[first:end])

    @property
    def is_silent(self) -> bool:
        return len(self.held.starts) == 0 and len(self.ended_ms) == 0

    def heard_until_ms(self, hour: Window) -> int:
        held_until = min(int(self.held.ends[-1]), hour.end_ms) if len(self.held.ends) else hour.start_ms
        return max(held_until, int(self.ended_ms[-1]) if len(self.ended_ms) else hour.start_ms)


def component_hours(
    table: pa.Table, meter: GaugeMeter, hours: Sequence[Window], limit_ms: int, open_before: frozenset[Component]
) -> dict[Window, list[ComponentHour]]:
    """Usage of consecutive `hours`.

    `table` holds the meter's and the `up` series of one organization from `limit_ms` before the first hour on, as
    `Lake.scan` gives them; `open_before` the components that existed at the start. Duplicates and order of the
    input do not change the result, nor does cutting `hours` into several calls.
    """
    by_component: dict[Component, list[_View]] = defaultdict(list)
    for (component, collector), source in _sources(table, meter, limit_ms).items():
        ended_ms = np.unique(np.asarray(source.ended_ms, np.int64))
        by_component[component].append(_View(collector, union(source.held), ended_ms))
    result: dict[Window, list[ComponentHour]] = {hour: [] for hour in hours}
    for component in sorted(by_component.keys() | open_before):
        views = by_component.get(component, [])
        is_open = component in open_before
        for hour in hours:
            found = _best(component, [view.cut(hour) for view in views], hour, open_before=is_open)
            if found is not None:
                result[hour].append(found)
                is_open = found.open_at_end
    return result


def _best(component: Component, views: Sequence[_View], hour: Window, *, open_before: bool) -> ComponentHour | None:
    """The view of the collector that observed most; of equal ones, that heard last. Never a sum."""
    heard = [view for view in views if not view.is_silent]
    candidates = [(view, _seen(component, view, hour, open_before=open_before)) for view in heard]
    if candidates:
        _, chosen = min(
            candidates,
            key=lambda found: (-found[1].observed_ms, -found[0].heard_until_ms(hour), found[0].collector),
        )
        return chosen if chosen.observed_ms or chosen.missing_ms or open_before else None
    if not open_before:
        return None
    return ComponentHour(component, None, 0, 0, hour.length_ms, 0, (), open_at_end=True, gaps=(hour,))


def _seen(component: Component, view: _View, hour: Window, *, open_before: bool) -> ComponentHour:
    ended_ms = view.ended_ms.tolist()
    gaps = missing(view.held, ended_ms, hour, open_before=open_before)
    return ComponentHour(
        component=component,
        collector=view.collector,
        milli_vcpu_ms=view.held.integral(hour),
        observed_ms=view.held.observed_ms(hour),
        missing_ms=sum(gap.length_ms for gap in gaps),
        peak_milli_vcpu=view.held.peak(hour),
        points=tuple(view.held.points(hour)),
        open_at_end=open_at(view.held, ended_ms, hour.end_ms, open_before=open_before),
        held=view.held.within(hour),
        gaps=tuple(gaps),
    )


def _sources(table: pa.Table, meter: GaugeMeter, limit_ms: int) -> dict[tuple[Component, CollectorId], _Source]:
    targets_up: dict[tuple[str, str, LabelSet], set[int]] = defaultdict(set)
    gauges = []
    for series in _series_of(table):
        name = dict(series.labels).get("__name__")
        if name == TARGET_UP:
            alive = series.times_ms[series.values == 1.0].tolist()
            targets_up[series.project, series.collector, _target(series.labels)].update(alive)
        elif name == meter.metric:
            gauges.append(series)
    sources: dict[tuple[Component, CollectorId], _Source] = defaultdict(_Source)
    for series in gauges:
        component = _component(series, meter)
        if component is None or len(series.times_ms) == 0:
            continue
        scraped = targets_up[series.project, series.collector, _target(series.labels)]
        stale = series.values.view(np.uint64) == STALE_NAN_BITS
        ended = stale & np.isin(series.times_ms, np.fromiter(scraped, np.int64, len(scraped)))
        source = sources[component, CollectorId(series.collector)]
        source.held.append(hold(GaugeSamples(series.times_ms, series.values, ended), limit_ms, meter.scale))
        source.ended_ms += series.times_ms[ended].tolist()
    return sources


@dataclass(frozen=True, slots=True)
class _Series:
    project: str
    collector: str
    labels: LabelSet
    times_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    values: np.ndarray[tuple[int], np.dtype[np.float64]]


def _series_of(table: pa.Table) -> Iterator[_Series]:
    if table.num_rows == 0:
        return
    ids = table.column("series_id").combine_chunks().dictionary_encode().indices.to_numpy()
    times = table.column("timestamp_ms").to_numpy()
    values = table.column("value").to_numpy()
    order = _order(ids, times, values)
    ids, times, values = ids[order], times[order], values[order]
    bounds = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(order)]
    for start, end in pairwise(bounds):
        row = int(order[start])
        yield _Series(
            table.column("project")[row].as_py(),
            table.column("collector")[row].as_py(),
            parse_canonical_labels(table.column("labels")[row].as_py()),
            times[start:end],
            values[start:end],
        )


def _order(ids: npt.NDArray[np.int32], times: Int64, values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Row numbers by series and time, one for each time of a series.

    Of two values at one time the lower counts, and a number before a marker: no order of arrival decides.
    """
    kinds = [
        (bool(np.isnan(value)), 0.0 if np.isnan(value) else float(value), int(bits))
        for value, bits in zip(values, values.view(np.int64), strict=True)
    ]
    ranked = sorted(range(len(ids)), key=lambda row: (ids[row], times[row], kinds[row]))
    rows: dict[tuple[int, int], int] = {}
    for row in ranked:
        rows.setdefault((int(ids[row]), int(times[row])), row)
    return np.asarray(list(rows.values()), np.intp)


def _target(labels: LabelSet) -> LabelSet:
    return tuple(label for label in labels if label[0] in {"instance", "job"})


def _component(series: _Series, meter: GaugeMeter) -> Component | None:
    labels = dict(series.labels)
    name = labels.get("component", "")
    if name not in meter.components:
        return None
    try:
        return Component(ProjectId(series.project), ClusterId(parse_id(labels.get("cluster", ""), "cluster")), name)
    except InvalidInput:
        return None  # no cluster to bill: the series stays in the lake, uncounted
