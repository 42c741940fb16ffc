"""Hours by arrays are the hours of the plain reference: every rule, on hours of 24 ms and a limit of 7 ms."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.window import Window
from metering.record import STALE_NAN_BITS
from metering.usage.array_hours import HourTable, Views, hour_table, steps_of
from metering.usage.levels import (
    ENDED,
    MAX_LEVEL,
    NOTHING,
    is_among,
    levels_of,
    levels_of_integers,
    one_each,
)
from metering.usage.meter import LICENCE_METER
from metering.usage.stretches import Segments, held, segments_of
from tests.usage.oracle import Key, walk
from tests.usage.scrapes import STALE, Row, gauge, scrape
from tests.usage.test_hours_laws import HOURS, LAWS, LIMIT, existing, stories

SPANS = [(hour.start_ms, hour.end_ms) for hour in HOURS]


def pure_hours(
    rows: Sequence[Row], before: frozenset[Key], hours: Sequence[Window] = HOURS
) -> tuple[list[Key], HourTable]:
    """Rows as a collector without a lake has them, through the pure functions alone; components by number."""
    gauges = [row for row in rows if _key(row)]
    ups = [row for row in rows if dict(row.labels)["__name__"] == "up" and row.value == 1.0]
    components = sorted({key for row in gauges if (key := _key(row))} | before)
    views = sorted({(_key(row), row.collector) for row in gauges})
    series = sorted({(row.collector, row.labels) for row in gauges})
    targets = sorted({_target(row) for row in rows})
    number = np.array([series.index((row.collector, row.labels)) for row in gauges], np.int64)
    times, values = _column(gauges, "at_ms", np.int64), _column(gauges, "value", np.float64)
    kept = one_each(number, times, values)
    levels = levels_of(values, 1000)
    markers = np.flatnonzero(values.view(np.uint64) == STALE_NAN_BITS)
    up = np.array([targets.index(_target(row)) for row in ups], np.int64), _column(ups, "at_ms", np.int64)
    mine = np.array([targets.index(_target(row)) for row in gauges], np.int64)
    levels[markers[is_among(mine[markers], times[markers], *up)]] = ENDED
    view_of = {(labels, by): views.index((_key(Row(0, 0, labels)), by)) for by, labels in series}
    return components, hour_table(
        segments_of(number[kept], times[kept], levels[kept], LIMIT),
        Views(
            np.array([view_of[labels, by] for by, labels in series], np.int64),
            np.array([components.index(key) for key, _ in views if key], np.int64),
            len(components),
        ),
        np.array([*(hour.start_ms for hour in hours), hours[-1].end_ms], np.int64),
        LIMIT,
        np.array([key in before for key in components], np.bool_),
    )


def _column(rows: Sequence[Row], name: str, kind: type) -> np.ndarray:
    return np.array([getattr(row, name) for row in rows], kind)


def _key(row: Row) -> Key | None:
    labels = dict(row.labels)
    if labels["__name__"] != LICENCE_METER.metric or labels["component"] not in LICENCE_METER.components:
        return None
    return labels["cluster"], labels["component"]


def _target(row: Row) -> tuple[object, ...]:
    return row.collector, tuple(label for label in row.labels if label[0] in {"instance", "job"})


@LAWS
@given(stories(), existing)
def test_arrays_give_what_a_walk_over_every_millisecond_gives(rows: list[Row], before: frozenset[Key]) -> None:
    components, table = pure_hours(rows, before)
    expected = walk(rows, SPANS, LIMIT, before)
    found = [
        (hour, components[component], figures)
        for hour, component, *figures in zip(
            table.hours.tolist(),
            table.components.tolist(),
            table.integrals.tolist(),
            table.observed_ms.tolist(),
            table.missing_ms.tolist(),
            table.peaks.tolist(),
            table.open_at_end.tolist(),
            strict=True,
        )
    ]
    assert found == [
        (hour, key, [each.integral, each.observed, each.missing, each.peak, each.open_at_end])
        for hour, walked in enumerate(expected)
        for key, each in sorted(walked.items())
    ]
    totals = np.zeros(SPANS[-1][1] - SPANS[0][0], np.int64)
    for walked, (start, end) in zip(expected, SPANS, strict=True):
        for each in walked.values():
            totals[start - SPANS[0][0] : end - SPANS[0][0]] += np.array(each.levels)
    steps = steps_of(table.pieces)
    for number, (start, end) in enumerate(SPANS):
        chosen = steps.hours == number
        times, levels = steps.times_ms[chosen].tolist(), steps.levels[chosen].tolist()
        assert times == sorted(set(times))
        assert all(one != other for one, other in zip([0, *levels], levels, strict=False))
        at = [max((i for i, time in enumerate(times) if time <= ms), default=-1) for ms in range(start, end)]
        summed = [levels[i] if i >= 0 else 0 for i in at]
        assert summed == totals[start - SPANS[0][0] : end - SPANS[0][0]].tolist()


@LAWS
@given(stories(), existing, st.integers(1, len(HOURS) - 1))
def test_hours_in_two_calls_are_hours_in_one(rows: list[Row], before: frozenset[Key], cut: int) -> None:
    components, whole = pure_hours(rows, before)
    known, first = pure_hours([row for row in rows if row.at_ms < HOURS[cut].start_ms], before, HOURS[:cut])
    last = first.hours == cut - 1
    is_open = [known[at] for at in first.components[last & first.open_at_end].tolist()]
    later = [row for row in rows if row.at_ms >= HOURS[cut].start_ms - LIMIT]
    others, second = pure_hours(later, frozenset(is_open), HOURS[cut:])

    def told(names: list[Key], table: HourTable, shift: int) -> list[tuple[object, ...]]:
        columns = table.integrals, table.observed_ms, table.missing_ms, table.peaks, table.open_at_end
        rows = zip(
            table.hours.tolist(), table.components.tolist(), *(each.tolist() for each in columns), strict=True
        )
        return [(hour + shift, names[component], *figures) for hour, component, *figures in rows]

    assert told(known, first, 0) + told(others, second, cut) == told(components, whole, 0)


@LAWS
@given(
    st.lists(
        st.sampled_from([0.1, 0.25, 0.0005, 0.00049, 1.0005, 1e7, 1e7 + 1, -0.0, -1.0, math.inf, math.nan, STALE])
        | st.floats(allow_nan=True)
        | st.integers(0, 10**11).map(lambda milli: milli / 1000)
        | st.floats(0, 1e4),
        max_size=30,
    ),
    st.sampled_from([1, 60, 1000]),
)
def test_levels_are_shortest_decimals_rounded_half_up(values: list[float], scale: int) -> None:
    for value, level in zip(values, levels_of(np.array(values, np.float64), scale).tolist(), strict=True):
        expected = NOTHING
        if math.isfinite(value) and value >= 0:
            exact = int((Decimal(repr(value)) * scale).to_integral_value(ROUND_HALF_UP))
            expected = exact if exact <= MAX_LEVEL else NOTHING
        assert level == expected


@LAWS
@given(st.lists(st.tuples(st.integers(-(2**53) + 1, 2**53 - 1) | st.integers(0, 10**6), st.integers(0, 9))))
def test_levels_of_stored_integers_are_those_of_their_doubles(stored: list[tuple[int, int]]) -> None:
    integers = np.array([integer for integer, _ in stored], np.int64)
    scales = np.array([places for _, places in stored], np.int8)
    doubles = np.array([integer / 10**places for integer, places in stored], np.float64)
    assert levels_of_integers(integers, scales, 1000).tolist() == levels_of(doubles, 1000).tolist()


def test_of_many_series_of_one_component_the_highest_counts() -> None:
    """A pod is replaced every 3 ms and its series ends 2 ms after the next one began: 200 series, one level."""
    rows = [row for pod in range(200) for row in ((pod, 3 * pod, 2 + pod % 2), (pod, 3 * pod + 5, NOTHING))]
    series, times, levels = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    found = held(segments_of(series, times, levels, 10), np.zeros(200, np.int64), 10)
    assert (found.ends[:-1] == found.starts[1:]).all()
    assert found.levels.max() == 3
    lowered = found.ends[found.levels == 2] - found.starts[found.levels == 2]
    assert set(lowered.tolist()) == {1, 3}  # 3: the first, before any other began


@pytest.mark.parametrize(
    ("series", "times"), [([0, 0], [5, 5]), ([0, 0], [5, 4]), ([1, 0], [4, 5])], ids=["twice", "back", "series"]
)
def test_samples_out_of_order_are_refused(series: list[int], times: list[int]) -> None:
    with pytest.raises(ValueError, match="ordered by series and time"):
        segments_of(np.array(series), np.array(times), np.zeros(2, np.int64), 10)


def test_segments_that_overlap_are_named() -> None:
    columns = [np.array(each, np.int64) for each in ([1, 1, 2, 2], [0, 5, 0, 6], [5, 9, 5, 9], [1, 2, 1, 2])]
    assert Segments(*columns).overlaps().tolist() == [1]


def test_no_components_and_no_samples_are_no_rows() -> None:
    _, table = pure_hours([], frozenset())
    assert len(table.hours) == 0
    components, table = pure_hours([], frozenset({("orders", "query")}))
    assert table.missing_ms.tolist() == [24, 24, 24]
    assert table.views.tolist() == [-1, -1, -1]
    assert components == [("orders", "query")]
    assert pure_hours([gauge(HOURS[-1].end_ms + 1, 1.0), scrape(0)], frozenset())[1].hours.tolist() == []


def test_a_collector_needs_no_library_of_the_vendor_for_it() -> None:
    wanted = "import sys, metering.usage.array_hours; print({'pyarrow', 'duckdb', 'sqlalchemy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", wanted], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
