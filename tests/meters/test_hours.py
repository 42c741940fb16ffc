"""Hours of every kind of meter by columns are those of the plain reference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.window import HOUR_MS, Window
from metering.meters.catalogue import Kind, Meter
from metering.meters.hours import meter_hours
from metering.meters.series import series_of
from tests.effort import costly
from tests.meters import reference
from tests.usage.scrapes import STALE, TARGET, Row, lake_table, scrape

T0 = 1_780_272_000_000 + 23 * HOUR_MS  # a day ends in the span
HOURS = [Window(T0 + number * HOUR_MS, T0 + (number + 1) * HOUR_MS) for number in range(3)]
LIMIT = 1_200_000
TICK = 300_000
WIDE = float(2**61)


def meter(kind: Kind, *, is_apart: bool) -> Meter:
    """With rows by zone, or one of all; things are pods."""
    more: dict[str, object] = {}
    if kind is Kind.GAUGE_INTEGRAL:
        more = {"per": "hour"}
    elif kind is Kind.PERCENTILE:
        more = {"percentile": 95, "denominator": "observed"}
    elif kind is Kind.UNIQUE_COUNT:
        more = {"count": "pod"}
    named = {"meter": "the-meter", "description": "d", "kind": kind, "series": [{"metric": "g"}], "unit": "u"}
    if is_apart:
        more["group_by"] = ["zone"]
    return Meter.model_validate({**named, **more, "identity": ["cluster", "pod"]})


@st.composite
def samples(draw: st.DrawFn) -> Row:
    labels = (
        ("__name__", "g"),
        ("cluster", draw(st.sampled_from(["orders", "orders", "search"]))),
        ("pod", draw(st.sampled_from(["a", "b"]))),
        ("shard", draw(st.sampled_from(["1", "2"]))),  # two series of one thing
        ("zone", draw(st.sampled_from(["x", "y"]))),
        *TARGET,
    )
    value = draw(st.sampled_from([0.0, 1.0, 5.0, 7.0, STALE, STALE, -1.0, WIDE]))
    at_ms = T0 + TICK * draw(st.integers(0, 3 * HOUR_MS // TICK - 1))
    return Row(at_ms, value, labels, draw(st.sampled_from(["col-a", "col-a", "col-b"])))


@costly(60)
@given(st.sampled_from(list(Kind)), st.booleans(), st.lists(samples(), max_size=30), st.integers(0, 2))
def test_columns_give_what_the_reference_gives(kind: Kind, is_apart: bool, rows: list[Row], cut: int) -> None:
    chosen = meter(kind, is_apart=is_apart)
    ups = [scrape(row.at_ms, ok=row.at_ms // TICK % 3 > 0, collector=row.collector) for row in rows]
    series = series_of(lake_table(rows + ups), None)
    expected = reference.meter_hours(chosen, series, {}, HOURS, LIMIT)
    assert meter_hours(chosen, series, {}, HOURS, LIMIT) == expected
    if cut:  # what is carried out of the hours before is enough
        later = meter_hours(chosen, series, expected[cut - 1].state, HOURS[cut:], LIMIT)
        assert later == reference.meter_hours(chosen, series, expected[cut - 1].state, HOURS[cut:], LIMIT)
