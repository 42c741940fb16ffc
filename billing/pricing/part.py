"""What a price model is given, and what it gives: exact parts that sum to the amount of a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

ZERO = Fraction(0)
_SHOWN_SCALE = 10**10


@dataclass(frozen=True, slots=True)
class Measured:
    """A meter's quantity in the billed period, exact, in the meter's unit. Never negative.

    `windows` is the same by hour, every hour of the period with those of zero, for models that look at each;
    `events` the value of each event, for models that charge by event.
    """

    quantity: Fraction
    unit: str = "unit"
    windows: tuple[Fraction, ...] = ()
    events: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        if self.quantity < 0 or any(value < 0 for value in (*self.windows, *self.events)):
            raise ValueError(f"a quantity is never negative: {self.quantity} {self.unit}")


@dataclass(frozen=True, slots=True)
class PricedPart:
    """`quantity * rate = amount`, exact, in major units of the currency; `basis` says it in words.

    A reader can check each part alone, and the line by adding them. Nothing is rounded here.
    """

    label: str
    quantity: Fraction
    unit: str
    rate: Fraction
    basis: str

    @property
    def amount(self) -> Fraction:
        return self.quantity * self.rate


def amount_of(parts: Iterable[PricedPart]) -> Fraction:
    """The exact amount of a line."""
    return sum((part.amount for part in parts), ZERO)


def ceiling(value: Fraction) -> int:
    """The smallest whole number that is not below `value`."""
    return -(-value.numerator // value.denominator)


def shown(value: Fraction) -> str:
    """For words alone: a decimal where the fraction has a short one, else the fraction."""
    numerator, denominator = value.as_integer_ratio()
    times, rest = divmod(_SHOWN_SCALE, denominator)
    if rest:
        return str(value)
    sign, digits = "-" if numerator < 0 else "", str(abs(numerator) * times).rjust(11, "0")
    return f"{sign}{digits[:-10]}.{digits[-10:]}".rstrip("0").rstrip(".")
