"""Durations and sizes as Prometheus users write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS_MS = {
    "y": 31_536_000_000,
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_DURATION = re.compile(
    r"(?:(?P<y>\d+)y)?(?:(?P<w>\d+)w)?(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?",
    re.ASCII,
)
_SIZE = re.compile(r"(?P<number>\d+)(?P<unit>B|[KMGTP]i?B)?", re.ASCII)
_POWERS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def parse_duration(text: object) -> float:
    """Seconds of `1m30s`, `500ms`, `2h`. Raises ValueError."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        if text in (0, "0"):
            return 0.0
        raise ValueError("a duration such as 15s, 1m30s or 500ms is allowed")
    total = sum(int(found[unit] or 0) * _UNITS_MS[unit] for unit in _UNITS_MS)
    if total > 10 * _UNITS_MS["y"]:
        raise ValueError("a duration of at most ten years is allowed")
    return total / 1000


def parse_size(text: object) -> int:
    """Bytes of `10MB`, `1GiB`, `512`; units are powers of 1024, as in Prometheus. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("a size such as 10MB or 1GiB is allowed")
    number: int = int(found["number"]) * 1024 ** _POWERS[(found["unit"] or "B")[0]]
    return number


def _duration(value: object) -> float:
    return value if isinstance(value, float) else parse_duration(value)


Duration = Annotated[float, BeforeValidator(_duration)]  # seconds
Size = Annotated[int, BeforeValidator(parse_size)]  # bytes
