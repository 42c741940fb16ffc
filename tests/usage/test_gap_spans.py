"""Gaps of neighbouring hours are one; nothing missing is left out or told twice."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kernel.ids import ClusterId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window
from metering.usage.gap_spans import gap_spans
from metering.usage.rows import UsageGap, UsageRow

T0 = 1_769_904_000_000


def row(hour: int, *gaps: tuple[int, int, int | None], component: str = "query", missing_ms: int = 0) -> UsageRow:
    """Gaps by start and end in ms of the hour, and the level before."""
    start = T0 + hour * HOUR_MS
    found = tuple(UsageGap(Window(start + a, start + b), start + a, level) for a, b, level in gaps)
    return UsageRow(
        OrganizationId("acme"), ProjectId("prod"), ClusterId("orders"), component, Window(start, start + HOUR_MS),
        1, 0, 0, missing_ms or sum(gap.window.length_ms for gap in found), 0, (), found,
    )  # fmt: skip


def test_a_gap_over_the_edge_of_an_hour_is_one() -> None:
    rows = [row(1, (0, 60_000, 4000)), row(0, (10, 20, 2000), (3_500_000, HOUR_MS, 4000))]
    first, second = gap_spans(rows)
    assert (first.window, first.milli_vcpu) == (Window(T0 + 10, T0 + 20), 2000)
    assert second.window == Window(T0 + 3_500_000, T0 + HOUR_MS + 60_000)
    assert second.missing_ms == 160_000


def test_components_levels_and_what_lies_between_keep_gaps_apart() -> None:
    rows = [
        row(0, (0, HOUR_MS, 4000)),
        row(1, (0, HOUR_MS, None)),
        row(2, (5, HOUR_MS, None)),
        row(3, (0, 5, None), component="data"),
    ]
    assert len(gap_spans(rows)) == 4


def test_of_an_hour_sealed_without_places_the_whole_hour_is_told() -> None:
    [span] = gap_spans([row(0, missing_ms=1234)])
    assert (span.window, span.missing_ms) == (Window(T0, T0 + HOUR_MS), 1234)
    assert gap_spans([row(0)]) == []


EDGES = st.lists(st.integers(0, 12), min_size=2, max_size=6, unique=True).map(sorted)


@given(st.dictionaries(st.integers(0, 4), EDGES))
def test_the_missing_time_is_that_of_the_rows(hours: dict[int, list[int]]) -> None:
    rows = [
        row(hour, *((a * 300_000, b * 300_000, 1) for a, b in zip(edges[::2], edges[1::2], strict=False)))
        for hour, edges in hours.items()
    ]
    spans = gap_spans(reversed(rows))
    assert sum(span.missing_ms for span in spans) == sum(each.missing_ms for each in rows)
    assert all(span.missing_ms == span.window.length_ms for span in spans)
    ends = [(span.window.start_ms, span.window.end_ms) for span in spans]
    assert all(end < start for (_, end), (start, _) in pairwise(ends))
