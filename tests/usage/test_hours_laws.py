"""Laws of the hours, on hours of 24 ms and a limit of 7 ms so that a plain walk can be the judge."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import ClusterId
from kernel.steps import StepFunction
from kernel.window import Window
from metering.usage.hours import ComponentHour, UsageHour, component_hours
from metering.usage.meter import LICENCE_METER, Component
from tests.effort import costly
from tests.usage import reference
from tests.usage.months import shape_of
from tests.usage.oracle import Key
from tests.usage.scrapes import STALE, TENANT, Row, gauge, lake_table, reading, scrape

LIMIT = 7
LENGTH = 24
BASE = 1_000  # so that the time before the first hour is positive
HOURS = [Window(BASE + LENGTH * i, BASE + LENGTH * (i + 1)) for i in range(3)]
SPAN = Window(HOURS[0].start_ms, HOURS[-1].end_ms)
LAWS = costly(150)

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
    rows: Sequence[Row],
    open_before: frozenset[Key] = frozenset(),
    hours: Sequence[Window] = HOURS,
    files: int = 1,
) -> dict[Window, UsageHour]:
    before = frozenset(Component(TENANT.project, ClusterId(cluster), name) for cluster, name in open_before)
    found = component_hours(reading(rows, LIMIT, files), hours, LIMIT, before)
    return dict(zip(hours, found, strict=True))


@LAWS
@given(stories(), existing, st.integers(1, 3))
def test_hours_are_those_of_the_reference(rows: list[Row], before: frozenset[Key], files: int) -> None:
    known = frozenset(Component(TENANT.project, ClusterId(cluster), name) for cluster, name in before)
    expected = reference.component_hours(lake_table(rows), LICENCE_METER, HOURS, LIMIT, known)
    for hour, found in computed(rows, before, files=files).items():
        assert list(found.components) == [
            ComponentHour(
                each.component,
                each.collector,
                each.milli_vcpu_ms,
                each.observed_ms,
                each.missing_ms,
                each.peak_milli_vcpu,
                each.open_at_end,
                shape_of(hour, each.held, each.gaps),
            )
            for each in expected[hour]
        ]
        summed = StepFunction.sum_of(StepFunction.of(each.points) for each in expected[hour])
        assert tuple(found.step) == summed.points


@LAWS
@given(stories(), existing, st.randoms(use_true_random=False))
def test_order_and_duplicates_change_nothing(rows: list[Row], before: frozenset[Key], random: object) -> None:
    shuffled = rows + rows[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert computed(shuffled, before, files=2) == computed(rows, before)


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
        is_open = frozenset(
            (view.component.cluster, view.component.name) for view in alone.components if view.open_at_end
        )


@LAWS
@given(stories())
def test_hours_telescope_when_one_collector_saw_everything(rows: list[Row]) -> None:
    """The sum over the hours is the integral over their span."""
    mine = [row for row in rows if row.collector == "col-a"]
    apart, together = computed(mine), computed(mine, hours=[SPAN])[SPAN].components
    for view in together:
        parts = [part for hour in HOURS for part in apart[hour].components if part.component == view.component]
        assert sum(part.milli_vcpu_ms for part in parts) == view.milli_vcpu_ms
        assert sum(part.observed_ms for part in parts) == view.observed_ms
        assert sum(part.missing_ms for part in parts) == view.missing_ms
        assert max(part.peak_milli_vcpu for part in parts) == view.peak_milli_vcpu


@LAWS
@given(stories(), existing)
def test_observed_and_missing_fit_into_the_hour(rows: list[Row], before: frozenset[Key]) -> None:
    for hour, found in computed(rows, before).items():
        for view in found.components:
            assert 0 <= view.observed_ms + view.missing_ms <= hour.length_ms
            assert view.milli_vcpu_ms <= view.peak_milli_vcpu * view.observed_ms
        summed = sum(view.milli_vcpu_ms for view in found.components)
        assert StepFunction(tuple(found.step)).integral(hour) == summed


@LAWS
@given(stories())
def test_a_second_collector_never_adds(rows: list[Row]) -> None:
    """Two collectors that saw the same give what one gives."""
    mine = [row for row in rows if row.collector == "col-a"]
    doubled = mine + [Row(row.at_ms, row.value, row.labels, "col-b") for row in mine]
    assert computed(doubled) == computed(mine)


@LAWS
@given(stories(), existing, st.integers(1, len(HOURS) - 1))
def test_what_holds_on_from_an_earlier_reading_need_not_be_read_again(
    rows: list[Row], before: frozenset[Key], cut: int
) -> None:
    at_ms = HOURS[cut].start_ms
    earlier = reading([row for row in rows if row.at_ms < at_ms], LIMIT)
    later = reading([row for row in rows if row.at_ms >= at_ms], LIMIT).after(earlier.tail(at_ms - LIMIT))
    known = frozenset(Component(TENANT.project, ClusterId(cluster), name) for cluster, name in before)
    whole = reading([row for row in rows if row.at_ms >= at_ms - LIMIT], LIMIT)
    found, expected = (component_hours(each, HOURS[cut:], LIMIT, known) for each in (later, whole))
    assert found == expected
