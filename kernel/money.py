"""Money: a Decimal amount and a currency. One rounding site, no floats, unequal currencies raise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache, lru_cache

from kernel.errors import InvalidInput

_PRECISE = Context(prec=50)
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DECIMAL_RULE = 'a decimal in quotes such as "900.00", at most 40 characters'


@dataclass(frozen=True, slots=True)
class Currency:
    """An ISO 4217 currency: three letters and the number of decimals of its minor unit."""

    code: str
    exponent: int

    @property
    def minor_unit(self) -> Decimal:
        return Decimal(1).scaleb(-self.exponent)


@cache
def currency(code: str, source: str = "currency") -> Currency:
    """The currency of that ISO 4217 code. Raises InvalidInput for an unknown one or one without minor unit."""
    from iso4217 import Currency as Listed

    try:
        exponent = Listed(code).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise InvalidInput.single(source, "currency", repr(code), "an ISO 4217 code such as USD, EUR, CNY or JPY")
    return Currency(code, int(exponent))


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount. Arithmetic between two currencies raises ValueError; a float raises TypeError."""

    amount: Decimal
    currency: Currency

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Decimal):
            raise TypeError(f"money is made from Decimal, not {type(self.amount).__name__}")
        if not self.amount.is_finite():
            raise ValueError(f"{self.amount} is not an amount")

    @classmethod
    def parse(cls, text: str, unit: Currency, source: str = "amount") -> Money:
        """From a decimal string. Raises InvalidInput."""
        return cls(parse_decimal(text, source), unit)

    @classmethod
    def round_half_up(cls, exact: Fraction | Decimal, unit: Currency) -> Money:
        """The one place where an exact amount is rounded: half-up to the currency's minor unit."""
        numerator, denominator = exact.as_integer_ratio()
        units = (2 * abs(numerator) * 10**unit.exponent + denominator) // (2 * denominator)
        return cls(Decimal(units if numerator >= 0 else -units).scaleb(-unit.exponent, _PRECISE), unit)

    @classmethod
    def zero(cls, unit: Currency) -> Money:
        return cls(Decimal(0).scaleb(-unit.exponent), unit)

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(_PRECISE.add(self.amount, other.amount), self.currency)

    def __sub__(self, other: Money) -> Money:
        return self + -other

    def __neg__(self) -> Money:
        # Not unary minus: it would round to the context, and give a negative zero.
        return self if self.amount == 0 else Money(self.amount.copy_negate(), self.currency)

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.amount < other.amount

    def _same(self, other: Money) -> None:
        if self.currency is not other.currency and self.currency != other.currency:
            raise ValueError(f"{self.currency.code} and {other.currency.code} do not add")

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency.code}"

    def split(self, weights: Sequence[int]) -> list[Money]:
        """Shares in whole minor units that sum to this amount: largest remainder, ties to the first."""
        total = sum(weights)
        if total <= 0 or any(weight < 0 for weight in weights):
            raise ValueError("weights must be non-negative and sum to more than zero")
        minor = int(self.amount.scaleb(self.currency.exponent))
        if Decimal(minor).scaleb(-self.currency.exponent) != self.amount:
            raise ValueError(f"{self} is not in whole minor units")
        sign, minor = (-1, -minor) if minor < 0 else (1, minor)
        shares = [minor * weight // total for weight in weights]
        by_remainder = sorted(range(len(weights)), key=lambda i: (-(minor * weights[i] % total), i))
        for index in by_remainder[: minor - sum(shares)]:
            shares[index] += 1
        return [Money(Decimal(sign * share).scaleb(-self.currency.exponent), self.currency) for share in shares]


def money_of_minor(minor_units: int, unit: Currency) -> Money:
    """The amount of a whole number of minor units."""
    return Money(Decimal(minor_units).scaleb(-unit.exponent), unit)


def minor_units_of(amount: Money) -> int:
    """The whole number of minor units. Raises ValueError when there are parts of one."""
    minor = amount.amount.scaleb(amount.currency.exponent, _PRECISE)
    whole = int(minor)
    if whole != minor:
        raise ValueError(f"{amount} is not in whole minor units")
    return whole


def refuse_parts(amount: Money, source: str, where: str = "amount") -> None:
    """Raises InvalidInput for an amount that nobody can pay: with parts of the currency's minor unit."""
    try:
        minor_units_of(amount)
    except ValueError as error:
        unit = amount.currency
        raise InvalidInput.single(
            source, where, str(amount), f"at most {unit.exponent} decimals in {unit.code}"
        ) from error


@lru_cache(maxsize=4096)
def fraction_of(amount: Decimal) -> Fraction:
    """The fraction of a decimal: prices come as decimals, again and again the same."""
    return Fraction(amount)


def total(amounts: Iterable[Money], unit: Currency) -> Money:
    """The exact sum."""
    result = Money.zero(unit)
    for amount in amounts:
        result += amount
    return result


def parse_decimal(text: object, source: str, where: str = "amount") -> Decimal:
    """The Decimal of a plain string such as "900.00" or "-0.5". Floats and other types raise InvalidInput.

    Stricter than `Decimal`, which takes "1e999999", "1_0", " 1" and the digits of every script.
    """
    if not isinstance(text, str):
        raise InvalidInput.single(source, where, f"{text!r} ({type(text).__name__})", _DECIMAL_RULE)
    if len(text) > 40 or not _DECIMAL.fullmatch(text):
        raise InvalidInput.single(source, where, repr(text), _DECIMAL_RULE)
    return Decimal(text)
