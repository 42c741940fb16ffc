"""Bounds of buckets and quantiles as Prometheus writes them into labels: OpenMetrics' canonical numbers."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache


@cache
def render_bound(value: float) -> str:
    """The shortest digits that read back as `value`, as Go's 'g' writes them, with `.0` behind a plain integer."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    minus = "-" if sign else ""
    point = len(digits) + exponent  # the decimal point stands behind this many digits
    text = "".join(map(str, digits))
    if text == "0":
        return f"{minus}0.0"
    if not -4 <= point - 1 < 6:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{fraction}e{point - 1:+03d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    if point >= len(text):
        return f"{minus}{text}{'0' * (point - len(text))}.0"
    return f"{minus}{text[:point]}.{text[point:]}"
