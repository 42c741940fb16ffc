"""Which times a target may give: dates from 1970 on, and none far ahead of our clock.

What is out of them stays here: one sample without a date, and the receiver refuses all that came with it.
"""

from __future__ import annotations

MAX_AHEAD_MS = 600_000  # over our clock; Prometheus' bound


def is_in_time(when_ms: int, at_ms: int) -> bool:
    """Whether a target may say `when_ms` (ms UTC) in a scrape at `at_ms`."""
    return 0 <= when_ms <= at_ms + MAX_AHEAD_MS
