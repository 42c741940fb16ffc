"""Laws of the hours, on hours of 24 ms and a limit of 7 ms so that a plain walk can be the judge."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.ids import ClusterId
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.hours import Component, ComponentHour, component_hours
from metering.usage.meter import LICENCE_METER
from tests.usage.oracle import Key, walk
from tests.usage.scrapes import STALE, TENANT, Row, gauge, lake_table, scrape

LIMIT = 7
LENGTH = 24
BASE = 1_000  # so that the time before the first hour is positive
HOURS = [Window(BASE + LENGTH * i, BASE + LENGTH * (i + 1)) for i in range(3)]
SPAN = Window(HOURS[0].start_ms, HOURS[-1].end_ms)
LAWS = settings(max_examples=150, deadline=None)

times = st.integers(BASE - LIMIT, SPAN.end_ms - 1)
values = st.sampled_from([0.0, 1.0, 2.0, 0.0005, STALE, STALE, float("nan"), -1.0, float("inf")])
collectors = st.sampled_from(["col-a", "col-a", "col-b"])
gauges = st.builds(
    gauge,
    times,
    values,
    component=st.sampled_from(["query", "query", "index", "dependency"]),
    cluster=st.sampled_from(["orders", "orders", "search"]),
    pod=st.sampled_from(["", "", "p2"]),
    collector=collectors,
)
scrapes = st.builds(scrape, times, ok=st.booleans(), collector=collectors, job=st.sampled_from(["x", "x", "y"]))


@st.composite
def stories(draw: st.DrawFn) -> list[Row]:
    """Samples, and mostly the scrape that each came with."""
    rows = draw(st.lists(gauges, max_size=25))
    scraped = {(row.at_ms, row.collector) for row in rows}
    ups = [scrape(at, ok=draw(st.integers(0, 3)) > 0, collector=by) for at, by in sorted(scraped)]
    return rows + ups + draw(st.lists(scrapes, max_size=3))


existing = st.frozensets(st.sampled_from([("orders", "query"), ("search", "index")]))


def computed(
    rows: Sequence[Row], open_before: frozenset[Key] = frozenset(), hours: Sequence[Window] = HOURS
) -> dict[Window, list[ComponentHour]]:
    before = frozenset(Component(TENANT.project, ClusterId(cluster), name) for cluster, name in open_before)
    return component_hours(lake_table(rows), LICENCE_METER, hours, LIMIT, before)


@LAWS
@given(stories(), existing)
def test_hours_are_what_a_walk_over_every_millisecond_gives(rows: list[Row], before: frozenset[Key]) -> None:
    expected = walk(rows, [(hour.start_ms, hour.end_ms) for hour in HOURS], LIMIT, before)
    found = computed(rows, before)
    for hour, walked in zip(HOURS, expected, strict=True):
        by_key = {(view.component.cluster, view.component.name): view for view in found[hour]}
        assert by_key.keys() == walked.keys()
        for key, view in by_key.items():
            other = walked[key]
            assert (view.milli_vcpu_ms, view.peak_milli_vcpu) == (other.integral, other.peak)
            assert (view.observed_ms, view.missing_ms) == (other.observed, other.missing)
            assert view.open_at_end == other.open_at_end
            step = StepFunction.of(view.points)
            assert tuple(step.at(at) for at in range(hour.start_ms, hour.end_ms)) == other.levels


@LAWS
@given(stories(), existing, st.randoms(use_true_random=False))
def test_order_and_duplicates_change_nothing(rows: list[Row], before: frozenset[Key], random: object) -> None:
    shuffled = rows + rows[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert computed(shuffled, before) == computed(rows, before)


@LAWS
@given(stories(), existing)
def test_hour_by_hour_equals_all_at_once(rows: list[Row], before: frozenset[Key]) -> None:
    """As the closer works: one scan from the limit before the hour on, what was open taken from the hour before."""
    whole = computed(rows, before)
    is_open = before
    for hour in HOURS:
        scanned = [row for row in rows if hour.start_ms - LIMIT <= row.at_ms < hour.end_ms]
        alone = computed(scanned, is_open, [hour])[hour]
        assert alone == whole[hour]
        is_open = frozenset((view.component.cluster, view.component.name) for view in alone if view.open_at_end)


@LAWS
@given(stories())
def test_hours_telescope_when_one_collector_saw_everything(rows: list[Row]) -> None:
    """The sum over the hours is the integral over their span."""
    mine = [row for row in rows if row.collector == "col-a"]
    apart, together = computed(mine), computed(mine, hours=[SPAN])[SPAN]
    for view in together:
        parts = [part for hour in HOURS for part in apart[hour] if part.component == view.component]
        assert sum(part.milli_vcpu_ms for part in parts) == view.milli_vcpu_ms
        assert sum(part.observed_ms for part in parts) == view.observed_ms
        assert sum(part.missing_ms for part in parts) == view.missing_ms
        assert max(part.peak_milli_vcpu for part in parts) == view.peak_milli_vcpu


@LAWS
@given(stories(), existing)
def test_observed_and_missing_fit_into_the_hour(rows: list[Row], before: frozenset[Key]) -> None:
    for hour, views in computed(rows, before).items():
        for view in views:
            assert 0 <= view.observed_ms + view.missing_ms <= hour.length_ms
            assert view.milli_vcpu_ms <= view.peak_milli_vcpu * view.observed_ms
            assert StepFunction.of(view.points).integral(hour) == view.milli_vcpu_ms


@LAWS
@given(stories())
def test_a_second_collector_never_adds(rows: list[Row]) -> None:
    """Two collectors that saw the same give what one gives."""
    mine = [row for row in rows if row.collector == "col-a"]
    doubled = mine + [Row(row.at_ms, row.value, row.labels, "col-b") for row in mine]
    assert computed(doubled) == computed(mine)
