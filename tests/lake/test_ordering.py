"""Laws: whatever columns come in, they leave in the order of ids and times, as a plain sort would put them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import CollectorId
from metering.lake.ordering import order_rows
from metering.lake.rows import Rows, Runs
from metering.lake.series import SeriesIndex
from metering.record import canonical_labels
from tests.effort import costly
from tests.lake.setting import ACME, gauge

SERIES = 12
values = st.sampled_from([0.0, -0.0, 1.5, float("inf"), float("nan")])
Listed = list[tuple[bytes, int, int]]


def index() -> SeriesIndex:
    made = SeriesIndex()
    made.slots(ACME, CollectorId("col-a"), [canonical_labels(gauge(f"s{at}")) for at in range(SERIES)])
    return made


@st.composite
def columns(draw: st.DrawFn) -> list[Rows]:
    """Scrapes of some targets, whose series come and go, and now and then rows with times of their own."""
    parts: list[Rows] = []
    for target in range(draw(st.integers(1, 3))):
        slots = np.array(draw(st.lists(st.integers(0, SERIES - 1), unique=True, max_size=8)), np.int64)
        for scrape in range(draw(st.integers(1, 5))):
            change = draw(st.sampled_from(["same", "same", "same", "other", "dated", "again"]))
            if change == "other":
                slots = np.array(draw(st.lists(st.integers(0, SERIES - 1), unique=True, max_size=8)), np.int64)
            found = np.array(draw(st.lists(values, min_size=len(slots), max_size=len(slots))), np.float64)
            stream = draw(st.sampled_from([None, target]))
            at = 1000 + (scrape - (change == "again")) * 10 + draw(st.sampled_from([0, 0, target]))
            if change == "dated":
                times = np.array([at + draw(st.integers(-20, 20)) for _ in slots], np.int64)
                parts.append(Rows(slots, times, found, draw(st.booleans())))
            else:
                parts.append(Rows(slots, np.empty(0, np.int64), found, draw(st.booleans()), at, stream))
    return draw(st.permutations(parts))


def listed(runs: Runs) -> Listed:
    ids = np.repeat(runs.ids, runs.counts, axis=0)
    bits = runs.values.view(np.uint64).tolist()
    return [(each.tobytes(), at, bit) for each, at, bit in zip(ids, runs.times().tolist(), bits, strict=True)]


def sorted_plainly(parts: list[Rows], series: SeriesIndex) -> Listed:
    """Our own rows all; those of foreign senders unless the same sample is there."""
    own: Listed = []
    foreign: set[tuple[bytes, int, int]] = set()
    for part in parts:
        bits = part.values.view(np.uint64).tolist()
        ids = [each.tobytes() for each in series.ids(part.slots)]
        rows = list(zip(ids, part.times().tolist(), bits, strict=True))
        own.extend(() if part.is_foreign else rows)
        foreign.update(rows if part.is_foreign else ())
    return sorted([*own, *(foreign - set(own))])


@costly(400)
@given(parts=columns())
def test_rows_come_out_as_a_plain_sort_would_put_them(parts: list[Rows]) -> None:
    series = index()
    runs = order_rows(parts, series)
    found, expected = listed(runs), sorted_plainly(parts, series)
    assert sorted(found) == expected
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert runs.duplicates == sum(len(part.slots) for part in parts) - len(expected)


def test_a_series_that_was_forgotten_and_met_again_is_one_run() -> None:
    series = index()
    first = series.slots(ACME, CollectorId("col-a"), [canonical_labels(gauge("s3"))])
    series.forget_labels()
    again = series.slots(ACME, CollectorId("col-a"), [canonical_labels(gauge("s3"))])
    assert first.tolist() != again.tolist()
    none = np.empty(0, np.int64)
    parts = [Rows(again, none, np.array([2.0]), at_ms=20), Rows(first, none, np.array([1.0]), at_ms=10)]
    runs = order_rows(parts, series)
    assert (len(runs.ids), runs.times().tolist(), runs.values.tolist()) == (1, [10, 20], [1.0, 2.0])
