"""The series of a meter: their samples as integers, when they ended, what is carried from hour to hour. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kernel.errors import InvalidInput
from kernel.ids import ClusterId, ProjectId, parse_id
from kernel.window import Window, hour_of
from metering.meters.arithmetic import Floats, Int64, Starts, integers
from metering.meters.catalogue import Kind, Meter
from metering.meters.held import Held, joined
from metering.record import STALE_NAN_BITS, LabelSet, canonical_labels, parse_canonical_labels
from metering.usage.levels import one_each

UP = "up"
SeriesKey = tuple[str, str, str]  # project, collector, labels as canonical text


@dataclass(frozen=True, slots=True)
class Carry:
    """What is known of a series at the end of an hour."""

    last_ms: int  # of its last sample, marker or not
    value_ms: int  # of its last quantity; -1: none yet
    value: int
    is_ended: bool  # by a stale marker of a scrape that succeeded


@dataclass(frozen=True, slots=True)
class MeterSeries:
    """One series of the lake in a span: samples in order, one for each time."""

    project: str
    collector: str
    labels: LabelSet
    times_ms: Int64
    values: Floats
    ended: npt.NDArray[np.bool_]
    starts: Starts

    @property
    def key(self) -> SeriesKey:
        return self.project, self.collector, canonical_labels(self.labels).decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Seen:
    """A series as a meter sees it, what was carried in before its samples."""

    key: SeriesKey
    project: ProjectId
    cluster: ClusterId
    dimensions: tuple[tuple[str, str], ...]
    identity: tuple[str, ...]
    held: Held
    ended_ms: Int64
    is_open_before: bool
    events_ms: Int64  # every sample and marker
    times_ms: Int64  # those that are quantities
    counts: Int64
    starts: Starts
    created_after_ms: int | None

    def level_at(self, moments_ms: Int64) -> Int64:
        """The last quantity before each moment; 0 before the first."""
        at = np.searchsorted(self.times_ms, moments_ms, side="left") - 1
        return np.where(at >= 0, self.counts[at], 0) if len(self.counts) else np.zeros_like(moments_ms)

    def carries(self, moments_ms: Sequence[int]) -> list[Carry | None]:
        """What is known before each moment."""
        if not len(self.events_ms):
            return [None] * len(moments_ms)
        events = np.searchsorted(self.events_ms, moments_ms, side="left")
        known = np.searchsorted(self.times_ms, moments_ms, side="left")
        last = self.events_ms[events - 1]
        ended = np.isin(last, self.ended_ms).tolist() if len(self.ended_ms) else [False] * len(last)
        # None known: what stands last, at -1.
        times, counts = (np.append(self.times_ms, -1)[known - 1], np.append(self.counts, 0)[known - 1])
        return [
            Carry(*carried) if number else None
            for number, *carried in zip(
                events.tolist(), last.tolist(), times.tolist(), counts.tolist(), ended, strict=True
            )
        ]


def series_of(table: pa.Table, starts: pa.Table | None) -> list[MeterSeries]:
    """The series in a table of `Lake.scan`, in any order of rows; `starts` as `Lake.starts` gives them."""
    return _series(list(_split(table)), _starts(starts))


def series_of_samples(
    owned: Sequence[tuple[str, str, bytes]],
    samples: tuple[Int64, Int64, Floats],
    starts: Mapping[int, Starts],
) -> list[MeterSeries]:
    """The same of samples that are in no file: number of the series, time, value; `starts` by number.

    `owned`: project, collector and canonical labels of each number.
    """
    which, times, values = samples
    if not len(which):
        return []
    order = one_each(which, times, values)
    which, times, values = which[order], times[order], values[order]
    bounds = [0, *(np.flatnonzero(which[1:] != which[:-1]) + 1).tolist(), len(which)]
    found: list[_Split] = []
    for start, end in pairwise(bounds):
        number = int(which[start])
        project, collector, labels = owned[number]
        parsed = parse_canonical_labels(labels)
        found.append((project, collector, parsed, number, times[start:end], values[start:end]))
    return _series(found, starts)


_Split = tuple[str, str, LabelSet, Any, Int64, Floats]  # the fourth: what starts are found by


def _series(found: Sequence[_Split], told: Mapping[Any, Starts]) -> list[MeterSeries]:
    scraped: dict[tuple[str, str, LabelSet], list[int]] = defaultdict(list)
    for project, collector, labels, _, times, values in found:
        if dict(labels).get("__name__") == UP:
            scraped[project, collector, _target(labels)] += times[values == 1.0].tolist()
    result = []
    for project, collector, labels, identifier, times, values in found:
        stale = values.view(np.uint64) == STALE_NAN_BITS
        alive = scraped.get((project, collector, _target(labels)), ()) if stale.any() else ()
        ended = stale & np.isin(times, np.asarray(alive, np.int64))
        begun = told.get(identifier, Starts.none())
        result.append(MeterSeries(project, collector, labels, times, values, ended, begun))
    return result


def see(
    meter: Meter, series: Sequence[MeterSeries], carried: Mapping[SeriesKey, Carry], span: Window, limit_ms: int
) -> list[Seen]:
    """The meter's series with samples in the span or carried into it, by key. One without a cluster is left out."""
    by_key = {each.key: each for each in series if _matches(meter, dict(each.labels))}
    found = []
    for key in sorted(by_key.keys() | carried.keys()):
        each = by_key.get(key)
        labels = each.labels if each else parse_canonical_labels(key[2].encode("utf-8", "surrogateescape"))
        named = dict(labels)
        try:
            cluster = ClusterId(parse_id(named.get("cluster", ""), "cluster"))
        except InvalidInput:
            continue  # no cluster to bill
        if _matches(meter, named):
            found.append(_seen(meter, key, (cluster, named), (each, carried.get(key)), span, limit_ms))
    return found


def _seen(
    meter: Meter,
    key: SeriesKey,
    named: tuple[ClusterId, dict[str, str]],
    known: tuple[MeterSeries | None, Carry | None],
    span: Window,
    limit_ms: int,
) -> Seen:
    cluster, labels = named
    each, carry = known
    times, counts, valid, ended = _joined(meter, each, carry, span)
    ends = times + limit_ms
    ends[:-1] = np.minimum(ends[:-1], times[1:])
    keep = valid & (ends > times)
    first = int(times[valid][0]) if valid.any() else 0
    names = meter.identity or sorted(labels)
    identity = tuple(labels.get(name, "") for name in names)
    if meter.kind is Kind.UNIQUE_COUNT:
        identity = (labels.get(meter.count or "", ""), *identity)
    elif not meter.identity:
        identity = (key[2],)
    return Seen(
        key=key,
        project=ProjectId(key[0]),
        cluster=cluster,
        dimensions=tuple((name, labels.get(name, "")) for name in meter.group_by),
        identity=identity,
        held=joined(Held(times[keep], ends[keep], counts[keep])),
        ended_ms=times[ended],
        is_open_before=carry is not None and not carry.is_ended,
        events_ms=times,
        times_ms=times[valid],
        counts=counts[valid],
        starts=each.starts if each else Starts.none(),
        created_after_ms=min(hour_of(first).start_ms, first - limit_ms),
    )


def _joined(
    meter: Meter, each: MeterSeries | None, carry: Carry | None, span: Window
) -> tuple[Int64, Int64, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Times, integers, which are quantities, which are ends: what was carried in, then the samples in the span."""
    before: list[tuple[int, int, bool, bool]] = []
    if carry is not None:
        if carry.value_ms >= 0:
            before.append((carry.value_ms, carry.value, True, False))
        if carry.last_ms > carry.value_ms:
            before.append((carry.last_ms, 0, False, carry.is_ended))
    times, counts = (np.asarray([row[at] for row in before], np.int64) for at in (0, 1))
    valid, ended = (np.asarray([row[at] for row in before], np.bool_) for at in (2, 3))
    if each is None:
        return times, counts, valid, ended
    inside = slice(*np.searchsorted(each.times_ms, [span.start_ms, span.end_ms]).tolist())
    found, is_quantity = integers(each.values[inside], meter.scale)
    return (
        np.concatenate([times, each.times_ms[inside]]),
        np.concatenate([counts, found]),
        np.concatenate([valid, is_quantity]),
        np.concatenate([ended, each.ended[inside]]),
    )


def _matches(meter: Meter, labels: dict[str, str]) -> bool:
    return any(each.matches(labels) for each in meter.series)


def _target(labels: LabelSet) -> LabelSet:
    return tuple(label for label in labels if label[0] in {"instance", "job"})


def _split(table: pa.Table) -> Iterator[tuple[str, str, LabelSet, bytes, Int64, Floats]]:
    if table.num_rows == 0:
        return
    ids = table.column("series_id").combine_chunks().dictionary_encode().indices.to_numpy()
    times, values = table.column("timestamp_ms").to_numpy(), table.column("value").to_numpy()
    order = one_each(ids, times, values)
    ids, times, values = ids[order], times[order], values[order]
    bounds = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    for start, end in pairwise(bounds):
        row = int(order[start])
        text = table.column("labels")[row].as_py()
        yield (
            table.column("project")[row].as_py(),
            table.column("collector")[row].as_py(),
            parse_canonical_labels(text),
            table.column("series_id")[row].as_py(),
            times[start:end],
            values[start:end],
        )


def _starts(table: pa.Table | None) -> dict[bytes, Starts]:
    if table is None or table.num_rows == 0:
        return {}
    found: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    columns = (table.column(name).to_pylist() for name in ("series_id", "seen_ms", "start_ms"))
    for identifier, seen, start in zip(*columns, strict=True):
        found[identifier].append((seen, start))
    result = {}
    for identifier, rows in found.items():
        rows.sort()
        begun, seen_ms = (np.asarray([row[at] for row in rows], np.int64) for at in (1, 0))
        result[identifier] = Starts(begun, seen_ms)
    return result
