"""Floats become integers once, by their shortest decimal form."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import DeadLetter
from kernel.quantity import INT64_MAX, render_fraction, scale_float, vcpu_hours, vcpu_minutes

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.integers(-(10**11), 10**11), st.sampled_from([1, 10, 1000]))
def test_a_decimal_that_was_scraped_keeps_its_digits(units: int, scale: int) -> None:
    text = str(Decimal(units) / scale)
    assert scale_float(float(text), scale) == units


@pytest.mark.parametrize(
    ("value", "scaled"),
    [(0.1, 100), (0.0005, 1), (-0.0005, -1), (0.00049, 0), (2.675, 2675), (1e-300, 0), (4.35, 4350)],
)
def test_halves_go_away_from_zero(value: float, scaled: int) -> None:
    assert scale_float(value, 1000) == scaled


@given(FINITE)
def test_a_float_is_scaled_to_the_nearest_or_refused(value: float) -> None:
    try:
        scaled = scale_float(value, 1000)
    except DeadLetter:
        assert abs(Fraction(value)) * 1000 >= INT64_MAX - 10**4
        return
    assert abs(scaled) <= INT64_MAX
    assert abs(Fraction(Decimal(repr(value))) * 1000 - scaled) <= Fraction(1, 2)
    assert scale_float(-value, 1000) == -scaled


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_quantity_goes_to_the_dead_letters(value: float) -> None:
    with pytest.raises(DeadLetter):
        scale_float(value, 1000)


def test_one_vcpu_for_an_hour_is_sixty_minutes() -> None:
    assert vcpu_minutes(1000 * 3_600_000) == 60
    assert vcpu_hours(1000 * 3_600_000) == 1


@given(st.fractions(-(10**9), 10**9), st.integers(0, 6))
def test_a_rendered_fraction_is_the_nearest(value: Fraction, places: int) -> None:
    rendered = render_fraction(value, places)
    assert abs(Fraction(rendered) - value) <= Fraction(1, 2 * 10**places)
    assert len(rendered.partition(".")[2]) == places
    assert not rendered.startswith("-0") or Fraction(rendered) < 0
