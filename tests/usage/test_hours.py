"""Hours told as a ledger: the docstring is the timeline. One hour unless it says otherwise; limit five minutes."""

from __future__ import annotations

from collections.abc import Iterable

from kernel.window import HOUR_MS, Window
from metering.usage.hours import ComponentHour, component_hours
from metering.usage.meter import Component
from tests.usage.scrapes import STALE, Row, component, gauge, reading, scrape

MINUTE = 60_000
T0 = 1_780_272_000_000  # 2026-06-01T00:00Z
HOURS = [Window(T0 + i * HOUR_MS, T0 + (i + 1) * HOUR_MS) for i in range(3)]
LIMIT = 5 * MINUTE
VCPU_MINUTE = 1000 * MINUTE


def at(minute: float) -> int:
    return T0 + int(minute * MINUTE)


def steady(
    first: int, last: int, vcpu: float, collector: str = "col-a", *, pod: str = "", name: str = "query"
) -> list[Row]:
    """A good scrape each minute, `first` to `last` inclusive."""
    rows = []
    for minute in range(first, last + 1):
        rows += [gauge(at(minute), vcpu, collector=collector, pod=pod, component=name)]
        rows += [scrape(at(minute), collector=collector)]
    return rows


def end(minute: int, *, ok: bool, collector: str = "col-a", pod: str = "") -> list[Row]:
    return [gauge(at(minute), STALE, collector=collector, pod=pod), scrape(at(minute), ok=ok, collector=collector)]


def hours_of(rows: Iterable[Row], open_before: frozenset[Component] = frozenset()) -> list[list[ComponentHour]]:
    found = component_hours(reading(rows, LIMIT), HOURS, LIMIT, open_before)
    return [list(hour.components) for hour in found]


def minutes(view: ComponentHour) -> tuple[float, float, float]:
    """(vCPU-minutes, observed minutes, missing minutes)."""
    return view.milli_vcpu_ms / VCPU_MINUTE, view.observed_ms / MINUTE, view.missing_ms / MINUTE


def test_a_whole_hour_then_a_scale_up() -> None:
    """
    00:00  query 4 vCPU, scraped each minute
    00:30  query 8 vCPU
    01:10  the component is gone
    """
    first, second, third = hours_of(steady(0, 29, 4) + steady(30, 69, 8) + end(70, ok=True))
    assert minutes(first[0]) == (30 * 4 + 30 * 8, 60, 0)
    assert first[0].peak_milli_vcpu == 8000
    assert minutes(second[0]) == (80, 10, 0)
    assert not second[0].open_at_end
    assert third == []


def test_a_failed_scrape_is_missing_time_and_stays_so_in_silent_hours() -> None:
    """
    00:00  query 4 vCPU
    00:20  the target can't be scraped: stale markers, up 0
    01:00  silence, for two hours
    """
    first, second, third = hours_of(steady(0, 19, 4) + end(20, ok=False))
    assert minutes(first[0]) == (80, 20, 40)
    assert minutes(second[0]) == minutes(third[0]) == (0, 0, 60)
    assert (second[0].collector, second[0].open_at_end) == (None, True)


def test_a_component_known_before_and_never_heard_of_again_is_missing() -> None:
    first, second, third = hours_of([], frozenset({component()}))
    assert [minutes(found[0]) for found in (first, second, third)] == [(0, 0, 60)] * 3


def test_two_collectors_are_chosen_from_by_coverage_and_never_added() -> None:
    """
    00:00  col-a and col-b both scrape query at 4 vCPU
    00:20  col-b loses its network; col-a goes on
    01:00  col-a stops; col-b is back
    02:00  both see it, col-b from 02:10 on
    """
    rows = steady(0, 59, 4) + steady(0, 20, 4, "col-b") + steady(60, 119, 4, "col-b")
    rows += steady(120, 179, 6) + steady(130, 179, 6, "col-b")
    first, second, third = hours_of(rows)
    assert [(view[0].collector, minutes(view[0])) for view in (first, second, third)] == [
        ("col-a", (240, 60, 0)),
        ("col-b", (240, 60, 0)),
        ("col-a", (360, 60, 0)),
    ]


def test_a_lesser_view_is_not_patched_with_the_other() -> None:
    """
    00:00  col-a sees 40 minutes, then falls silent (its last sample holds five more)
    00:30  col-b sees the last 30 minutes
    """
    first = hours_of(steady(0, 39, 4) + steady(30, 59, 4, "col-b"))[0]
    assert [(view.collector, minutes(view)) for view in first] == [("col-a", (4 * 44, 44, 16))]


def test_a_relabelled_component_is_one_component_at_its_higher_level() -> None:
    """
    00:00  pod-1 4 vCPU
    00:30  pod-2 takes over with 4 vCPU and both are exported for ten minutes
    00:40  pod-1 ends
    """
    rows = steady(0, 39, 4, pod="pod-1") + end(40, ok=True, pod="pod-1") + steady(30, 59, 4, pod="pod-2")
    first, second, _ = hours_of(rows)
    assert minutes(first[0]) == (240, 60, 0)
    assert first[0].open_at_end
    assert minutes(second[0]) == (16, 4, 56)


def test_a_silence_at_the_hours_edge_after_a_relabelling_is_missing_not_absent() -> None:
    """
    00:00  pod-1 and pod-2, one component
    00:30  pod-1 ends, pod-2 goes on to the end of the hour
    01:04  pod-2's last sample has held its five minutes; nothing arrives any more
    """
    rows = steady(0, 29, 4, pod="pod-1") + end(30, ok=True, pod="pod-1") + steady(0, 59, 4, pod="pod-2")
    _, second, third = hours_of(rows)
    assert minutes(second[0]) == (16, 4, 56)
    assert minutes(third[0]) == (0, 0, 60)


def test_dependencies_are_free_and_a_series_without_a_cluster_is_not_billed() -> None:
    nameless = Row(at(0), 4.0, (("__name__", "byoc_component_allocated_vcpu"), ("component", "query")))
    assert hours_of([*steady(0, 59, 4, name="dependency"), nameless])[0] == []


def test_a_marker_of_another_targets_scrape_ends_nothing() -> None:
    """
    00:20  a stale marker; only another job's scrape succeeded at that time
    """
    rows = [*steady(0, 19, 4), gauge(at(20), STALE), scrape(at(20), job="other")]
    assert minutes(hours_of(rows)[0][0]) == (80, 20, 40)


def test_two_values_at_one_time_count_once_at_the_lower() -> None:
    """A number wins over a marker, the lower number over the higher, as in the lake, whatever arrived first."""
    rows = [gauge(at(0), 4.0), gauge(at(0), 6.0), gauge(at(0), STALE), scrape(at(0)), *end(1, ok=True)]
    for arrived in (rows, rows[::-1]):
        assert minutes(hours_of(arrived)[0][0]) == (4, 1, 0)


def test_an_empty_lake() -> None:
    assert hours_of([]) == [[], [], []]
