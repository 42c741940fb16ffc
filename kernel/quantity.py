"""Quantities are integers in a scaled unit. A float is read once, by its shortest decimal form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from kernel.errors import DeadLetter

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Unit:
    """An integer unit: its name, and how many of it make one of the base unit."""

    name: str
    scale: int  # 1 base unit = `scale` of these


MILLI_VCPU = Unit("milli-vCPU", 1000)
VCPU_MINUTE_IN_MILLI_VCPU_MS = 1000 * 60_000
VCPU_HOUR_IN_MILLI_VCPU_MS = 1000 * 3_600_000


def scale_float(value: float, scale: int) -> int:
    """`value` in units of 1/scale, half away from zero, taken from the float's shortest decimal form.

    Two collectors that scrape the same text get the same integer whatever the engine or the order.
    Raises DeadLetter for NaN, infinities and what does not fit in 64 bits: no quantity is meant.
    """
    if not math.isfinite(value):
        raise DeadLetter(f"{value!r} is not a quantity")
    scaled = Decimal(repr(value)) * scale
    whole = int(scaled.to_integral_value(rounding="ROUND_HALF_UP"))
    if abs(whole) > INT64_MAX:
        raise DeadLetter(f"{value!r} times {scale} does not fit in 64 bits")
    return whole


def vcpu_minutes(milli_vcpu_ms: int) -> Fraction:
    """Exact vCPU-minutes of an integral in milli-vCPU times milliseconds."""
    return Fraction(milli_vcpu_ms, VCPU_MINUTE_IN_MILLI_VCPU_MS)


def vcpu_hours(milli_vcpu_ms: int) -> Fraction:
    """Exact vCPU-hours of an integral in milli-vCPU times milliseconds."""
    return Fraction(milli_vcpu_ms, VCPU_HOUR_IN_MILLI_VCPU_MS)


def render_fraction(value: Fraction, places: int) -> str:
    """`value` rounded half-up to `places` decimals, for a person to read; never for arithmetic."""
    return render_ratio(*value.as_integer_ratio(), places)


def render_ratio(numerator: int, denominator: int, places: int) -> str:
    """`render_fraction` of two integers, the second above zero, that need not be without a common divisor."""
    whole = (2 * abs(numerator) * 10**places + denominator) // (2 * denominator)
    sign = "-" if numerator < 0 and whole else ""
    digits = str(whole).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
