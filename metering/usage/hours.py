"""From a lake table of one organization to the usage of each of its components in each hour. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, CollectorId, ProjectId, parse_id
from kernel.window import Window
from metering.record import STALE_NAN_BITS, LabelSet, parse_canonical_labels
from metering.usage.meter import TARGET_UP, GaugeMeter
from metering.usage.presence import GaugeSamples, Held, hold, missing, open_at, union

_NONE_MS = -1


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """What a licence counts: a component of a cluster, by stable ids, whatever labels its series carry."""

    project: ProjectId
    cluster: ClusterId
    name: str


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


@dataclass(slots=True)
class _Source:
    """One component as one collector saw it."""

    held: list[Held] = field(default_factory=list)
    ended_ms: list[int] = field(default_factory=list)
    last_event_ms: int = _NONE_MS


def component_hours(
    table: pa.Table, meter: GaugeMeter, hours: Sequence[Window], limit_ms: int, open_before: frozenset[Component]
) -> dict[Window, list[ComponentHour]]:
    """Usage of consecutive `hours`.

    `table` holds the meter's and the `up` series of one organization from `limit_ms` before the first hour on, as
    `Lake.scan` gives them; `open_before` the components that existed at the start. Duplicates and order of the
    input do not change the result.
    """
    sources = _sources(table, meter, limit_ms)
    by_component: dict[Component, dict[CollectorId, _Source]] = defaultdict(dict)
    for (component, collector), source in sources.items():
        by_component[component][collector] = source
    result: dict[Window, list[ComponentHour]] = {hour: [] for hour in hours}
    for component in sorted(by_component.keys() | open_before):
        merged = {collector: (union(source.held), source) for collector, source in by_component[component].items()}
        is_open = component in open_before
        for hour in hours:
            found = _best(component, merged, hour, open_before=is_open)
            if found is not None:
                result[hour].append(found)
                is_open = found.open_at_end
    return result


def _best(
    component: Component, merged: dict[CollectorId, tuple[Held, _Source]], hour: Window, *, open_before: bool
) -> ComponentHour | None:
    """The view of the collector that observed most; none observed: of the one that heard last. Never a sum."""
    candidates = []
    for collector, (held, source) in merged.items():
        endings = [at for at in source.ended_ms if at < hour.end_ms]
        recent = [at for at in endings if at >= hour.start_ms]
        last_ms = max([at for at in held.starts.tolist() if at < hour.end_ms] + endings, default=_NONE_MS)
        gaps = missing(held, recent, hour, open_before=open_before)
        view = ComponentHour(
            component=component,
            collector=collector,
            milli_vcpu_ms=held.integral(hour),
            observed_ms=held.observed_ms(hour),
            missing_ms=sum(gap.length_ms for gap in gaps),
            peak_milli_vcpu=held.peak(hour),
            points=tuple(held.points(hour)),
            open_at_end=open_at(held, endings, hour.end_ms, open_before=open_before),
        )
        candidates.append((-view.observed_ms, -last_ms, collector, view))
    if candidates:
        chosen = min(candidates, key=lambda candidate: candidate[:3])[3]
        existed = chosen.observed_ms or chosen.missing_ms or open_before
        return chosen if existed else None
    if not open_before:
        return None
    return ComponentHour(component, None, 0, 0, hour.length_ms, 0, (), open_at_end=True)


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
    ordered = table.sort_by([("series_id", "ascending"), ("timestamp_ms", "ascending")]).combine_chunks()
    if ordered.num_rows == 0:
        return
    ids = ordered.column("series_id").combine_chunks()
    starts = np.flatnonzero(
        np.append(True, pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False).astype(bool))
    )
    times = ordered.column("timestamp_ms").to_numpy()
    values = ordered.column("value").to_numpy()
    bounds = [*starts.tolist(), ordered.num_rows]
    for start, end in pairwise(bounds):
        yield _Series(
            ordered.column("project")[start].as_py(),
            ordered.column("collector")[start].as_py(),
            parse_canonical_labels(ordered.column("labels")[start].as_py()),
            times[start:end],
            values[start:end],
        )


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
        return None  # no cluster to bill: the series is in the lake, and the report counts it as unattributed
