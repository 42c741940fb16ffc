"""Durations as Prometheus writes them: `1h30m`, `5m`, `15s`, `500ms`, `0`."""

from __future__ import annotations

import re

_UNITS_MS = {"y": 365 * 86_400_000, "w": 7 * 86_400_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
_DURATION = re.compile(
    r"(?:(?P<y>\d+)y)?(?:(?P<w>\d+)w)?(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?",
    re.ASCII,
)
LONGEST_MS = 366 * 86_400_000
DURATION_RULE = "a duration such as 30s, 5m or 1h30m, up to one year"


def parse_duration(text: str) -> int:
    """Milliseconds. Raises ValueError."""
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text) if len(text) <= 40 else None
    if not found or not text:
        raise ValueError(f"{text!r} is no duration")
    total = sum(int(count) * _UNITS_MS.get(unit, 1) for unit, count in found.groupdict().items() if count)
    if total > LONGEST_MS:
        raise ValueError(f"{text!r} is too long")
    return total
