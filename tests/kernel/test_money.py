"""Money keeps every minor unit: no float, one rounding site, splits that sum."""

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.money import Currency, Money, currency, parse_decimal, total

USD, JPY, KWD = currency("USD"), currency("JPY"), currency("KWD")
CURRENCIES = st.sampled_from([USD, JPY, KWD])
UNITS = st.integers(-(10**18), 10**18)


def of_units(units: int, unit: Currency) -> Money:
    return Money(Decimal(units).scaleb(-unit.exponent), unit)


@given(UNITS, CURRENCIES, st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any))
def test_a_split_preserves_the_total(units: int, unit: Currency, weights: list[int]) -> None:
    amount = of_units(units, unit)
    shares = amount.split(weights)
    assert total(shares, unit) == amount
    for share, weight in zip(shares, weights, strict=True):
        exact = Fraction(units) * weight / sum(weights)
        assert abs(Fraction(share.amount.scaleb(unit.exponent)) - exact) < 1
        assert weight or share == Money.zero(unit)


@given(UNITS, CURRENCIES, st.sets(st.integers(1, 100), min_size=2, max_size=6))
def test_a_heavier_weight_never_gets_less(units: int, unit: Currency, weights: set[int]) -> None:
    shares = of_units(abs(units), unit).split(sorted(weights))
    assert all(one.amount <= two.amount for one, two in pairwise(shares))


def test_ties_go_to_the_first() -> None:
    assert [str(share.amount) for share in Money.parse("0.05", USD).split([1, 1, 1])] == ["0.02", "0.02", "0.01"]
    assert [str(share.amount) for share in Money.parse("-0.05", USD).split([1, 1])] == ["-0.03", "-0.02"]


@given(st.fractions(min_value=-(10**15), max_value=10**15), CURRENCIES)
def test_rounding_is_half_up_away_from_zero(exact: Fraction, unit: Currency) -> None:
    rounded = Money.round_half_up(exact, unit)
    scaled = Fraction(rounded.amount) * 10**unit.exponent
    assert scaled.denominator == 1
    assert abs(scaled - exact * 10**unit.exponent) <= Fraction(1, 2)
    assert Money.round_half_up(-exact, unit) == -rounded


@given(st.decimals(-(10**9), 10**9, places=6), CURRENCIES)
def test_rounding_agrees_with_decimal(exact: Decimal, unit: Currency) -> None:
    with localcontext() as context:
        context.prec = 60
        expected = exact.quantize(unit.minor_unit, ROUND_HALF_UP)
    assert Money.round_half_up(exact, unit).amount == expected


@pytest.mark.parametrize(
    ("exact", "unit", "rounded"),
    [
        ("0.005", USD, "0.01"),
        ("-0.005", USD, "-0.01"),
        ("0.004999", USD, "0.00"),
        ("2.5", JPY, "3"),
        ("1.0005", KWD, "1.001"),
    ],
)
def test_halves(exact: str, unit: Currency, rounded: str) -> None:
    assert str(Money.round_half_up(Decimal(exact), unit).amount) == rounded


@given(UNITS, UNITS, CURRENCIES)
def test_sums_are_exact(one: int, two: int, unit: Currency) -> None:
    assert of_units(one, unit) + of_units(two, unit) == of_units(one + two, unit)
    assert of_units(one, unit) - of_units(two, unit) == of_units(one - two, unit)


def test_unequal_currencies_raise() -> None:
    dollar, yen = Money.parse("1.00", USD), Money.parse("1", JPY)
    for operation in (lambda: dollar + yen, lambda: dollar - yen, lambda: dollar < yen, lambda: total([yen], USD)):
        with pytest.raises(ValueError, match="do not add"):
            operation()


@pytest.mark.parametrize("amount", [1.0, 1, "1.00", None])
def test_only_a_decimal_is_money(amount: object) -> None:
    with pytest.raises(TypeError, match="Decimal"):
        Money(amount, USD)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_no_money(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        Money(Decimal(amount), USD)
    with pytest.raises(InvalidInput):
        Money.parse(amount, USD)


def test_a_fraction_of_a_cent_does_not_split() -> None:
    with pytest.raises(ValueError, match="whole minor units"):
        Money.parse("0.005", USD).split([1, 1])
    for weights in ([], [0, 0], [2, -1]):
        with pytest.raises(ValueError, match="weights"):
            Money.parse("1.00", USD).split(weights)


@given(st.one_of(st.text(max_size=50), st.floats(), st.integers(), st.none(), st.booleans()))
def test_any_input_is_a_finite_decimal_or_refused(value: object) -> None:
    try:
        parsed = parse_decimal(value, "contract.yaml")
    except InvalidInput:
        return
    assert isinstance(value, str)
    assert value.isascii()
    assert parsed.is_finite()


@pytest.mark.parametrize("text", ["1_000.00", " 1.00", "1.00\n", "１.00", "1e5", "0x10", "", "+-1", "1" * 41])
def test_what_decimal_takes_and_a_price_book_must_not(text: str) -> None:
    with pytest.raises(InvalidInput, match="in quotes"):
        parse_decimal(text, "prices.yaml")


@pytest.mark.parametrize("code", ["", "usd", "XXX", "XAU", "ABCD", "DOLLAR"])
def test_an_unknown_currency_is_refused(code: str) -> None:
    with pytest.raises(InvalidInput, match="ISO 4217"):
        currency(code)
