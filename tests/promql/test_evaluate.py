"""Rules of evaluation that two engines can't show: edges, staleness, many-to-one, what is refused."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from metering.promql.api import EvaluationError, evaluate, parse_expression, render_number
from metering.promql.parse import WINDOW_FUNCTIONS
from metering.record import STALE_NAN_BITS
from tests.promql.samples import BASE_MS, Row, dataset, fill, labels

STALE = struct.unpack("<d", struct.pack("<Q", STALE_NAN_BITS))[0]


def value_of(expression: str, rows: list[Row], at_ms: int) -> dict[tuple[tuple[str, str], ...], float]:
    return dict(evaluate(parse_expression(expression), fill(rows), at_ms).elements())


def at(second: float, value: float, name: str = "x", **others: str) -> Row:
    return labels(name, **others), BASE_MS + round(second * 1000), value


def test_a_window_is_open_on_the_left_and_closed_on_the_right() -> None:
    rows = [at(0, 1), at(60, 2), at(120, 3)]
    assert value_of("count_over_time(x[1m])", rows, BASE_MS + 120_000) == {(): 1}
    assert value_of("count_over_time(x[1m])", rows, BASE_MS + 119_999) == {(): 1}
    assert value_of("count_over_time(x[2m])", rows, BASE_MS + 120_000) == {(): 2}


def test_the_lookback_is_five_minutes_and_open_on_the_left() -> None:
    rows = [at(0, 1)]
    assert value_of("x", rows, BASE_MS + 299_999) == {labels("x"): 1}
    assert value_of("x", rows, BASE_MS + 300_000) == {}
    assert value_of("x", rows, BASE_MS - 1) == {}


def test_a_stale_marker_ends_a_series_at_once_and_is_no_sample_of_a_window() -> None:
    rows = [at(0, 1), at(15, 2), at(30, STALE), at(45, 4)]
    assert value_of("x", rows, BASE_MS + 29_999) == {labels("x"): 2}
    assert value_of("x", rows, BASE_MS + 30_000) == {}
    assert value_of("x", rows, BASE_MS + 45_000) == {labels("x"): 4}
    assert value_of("count_over_time(x[1m])", rows, BASE_MS + 50_000) == {(): 3}
    assert value_of("delta(x[1m])", rows, BASE_MS + 45_000) == {(): 3 * 60 / 45}
    assert value_of("count_over_time(x[10s])", rows, BASE_MS + 31_000) == {}


def test_an_ordinary_nan_is_a_value() -> None:
    rows = [at(0, math.nan)]
    assert len(value_of("x", rows, BASE_MS)) == 1
    assert value_of("x > 0", rows, BASE_MS) == {}
    assert value_of("x == bool x", rows, BASE_MS) == {(): 0}


def test_a_counter_reset_is_not_a_decrease() -> None:
    rows = [at(0, 100), at(20, 110), at(40, 5), at(60, 15)]
    assert value_of("increase(x[1m])", rows, BASE_MS + 60_000)[()] == pytest.approx(5 + 10 + 2.5, rel=0.5)
    assert value_of("delta(x[100s])", rows, BASE_MS + 60_000)[()] < 0


def test_one_sample_gives_no_rate() -> None:
    assert value_of("rate(x[1m])", [at(0, 100)], BASE_MS + 1) == {}


def test_extrapolation_stops_where_a_counter_would_have_been_zero() -> None:
    """Ten seconds before its first sample the counter was born: half a mean distance would be 15 s."""
    rows = [at(100, 10), at(130, 40)]
    increase = value_of("increase(x[100s])", rows, BASE_MS + 130_000)[()]
    assert increase == pytest.approx(40)


@pytest.mark.parametrize("side", ["x + on(a) y", "y + on(a) x"])
def test_many_to_one_is_an_error_not_a_guess(side: str) -> None:
    rows = [at(0, 1, a="1", b="1"), at(0, 2, a="1", b="2"), at(0, 3, "y", a="1")]
    with pytest.raises(EvaluationError, match="more than one element"):
        value_of(side, rows, BASE_MS)


def test_dropping_the_name_must_not_make_two_elements_one() -> None:
    rows = [at(0, 1, "x", a="1"), at(0, 2, "y", a="1")]
    with pytest.raises(EvaluationError, match="two elements"):
        value_of('-{__name__=~"x|y"}', rows, BASE_MS)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("topk(3, x)", "topk"),
        ("quantile(0.9, x)", "quantile"),
        ("histogram_quantile(0.9, x)", "histogram_quantile"),
        ("x * on(a) group_left() y", "group_left"),
        ("rate(x[5m:1m])", "subquery"),
        ("x[5m]", "range vector"),
        ("x @ 5", "@ modifier"),
        ('"text"', "string"),
        ("1 atan2 2", "atan2"),
        ("x + fill(0) y", "fill"),
        ('x{a="1" or b="2"}', "'or' between"),
        ("sum(x", "parenthesis"),
        ('x{a=~"("}', "regex"),
        ("(" * 200 + "1" + ")" * 200, "nested"),
        ("+".join(["1"] * 300), "nested"),
        ("x" * 20_000, "characters"),
    ],
)
def test_what_is_not_evaluated_is_refused_by_name(expression: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        parse_expression(expression)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abx_{}[]()=~!\"'5ms,+-*/<>@ ratebyonsum\\\n", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        tree = parse_expression(text)
    except InvalidInput:
        return
    evaluate(tree, fill([at(0, 1)]), BASE_MS)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(WINDOW_FUNCTIONS), st.integers(-5_000, 1_300_000), st.sampled_from(["1s", "30s", "5m", "1h"])
)
def test_any_window_at_any_time_has_a_value_or_none(function: str, offset_ms: int, span: str) -> None:
    vector = evaluate(parse_expression(f"{function}(requests_total[{span}])"), HEAD, BASE_MS + offset_ms)
    assert all(math.isfinite(value) for _, value in vector.elements())


HEAD = fill(dataset())


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.1, "0.1"), (math.inf, "+Inf"), (math.nan, "NaN")])
def test_a_value_prints_as_prometheus_prints_it(value: float, text: str) -> None:
    assert render_number(value) == text
