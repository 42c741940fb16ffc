"""Numbers for people, as the template functions of Prometheus print them (template/template.go)."""

from __future__ import annotations

import math
from decimal import Decimal

_ABOVE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BELOW = ("", "m", "u", "n", "p", "f", "a", "z", "y")


def go_float(value: float) -> str:
    """As Go prints a float64 by default: shortest digits, an exponent below 1e-4 and from 1e6 on."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    exact = Decimal(repr(value))
    exponent = exact.adjusted()
    if -4 <= exponent < 6:
        return f"{exact:f}".removesuffix(".0")
    digits = "".join(map(str, exact.normalize().as_tuple().digits))
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def four_digits(value: float) -> str:
    """`%.4g` of Go."""
    if not math.isfinite(value):
        return go_float(value)
    return f"{value:.4g}"


def humanize(value: float) -> str:
    """With a metric prefix: 1234567 is `1.235M`."""
    if value == 0 or not math.isfinite(value):
        return four_digits(value)
    scaled, step = value, 0
    if abs(value) >= 1:
        while abs(scaled) >= 1000 and step < len(_ABOVE) - 1:
            scaled, step = scaled / 1000, step + 1
        return four_digits(scaled) + _ABOVE[step]
    while abs(scaled) < 1 and step < len(_BELOW) - 1:
        scaled, step = scaled * 1000, step + 1
    return four_digits(scaled) + _BELOW[step]


def humanize_percentage(value: float) -> str:
    """A ratio as per cent: 0.7 is `70%`."""
    return four_digits(value * 100) + "%"


def humanize_duration(seconds: float) -> str:
    """`1d 2h 3m 4s`; below a minute four digits, below a second with a metric prefix."""
    if not math.isfinite(seconds):
        return four_digits(seconds)
    if seconds == 0:
        return four_digits(seconds) + "s"
    if abs(seconds) > 1:
        return ("-" if seconds < 0 else "") + _whole_units(abs(seconds))
    scaled, step = seconds, 0
    while abs(scaled) < 1 and step < len(_BELOW) - 1:
        scaled, step = scaled * 1000, step + 1
    return f"{four_digits(scaled)}{_BELOW[step]}s"


def _whole_units(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h {minutes}m {whole % 60}s"
    if hours:
        return f"{hours}h {minutes}m {whole % 60}s"
    if minutes:
        return f"{minutes}m {whole % 60}s"
    return four_digits(seconds) + "s"
