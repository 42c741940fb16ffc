"""Which times a target may give: none far ahead of our clock, and none of over 400 days ago.

What is out of them stays here: one sample without a date, and the receiver refuses all that came with it.
"""

from __future__ import annotations

from kernel.window import DAY_MS

MAX_AHEAD_MS = 600_000  # over our clock; Prometheus' bound
MAX_BEHIND_MS = 400 * DAY_MS  # as far back as a gateway takes samples by default


TOO_NEW = "dated by the target over 10 minutes ahead: set its clock, or honor_timestamps: false"
TOO_OLD = "dated by the target over 400 days ago: set its clock, or honor_timestamps: false"


def earliest_ms(at_ms: int) -> int:
    """The first time (ms UTC) that a sample may have in a scrape at `at_ms`."""
    return max(0, at_ms - MAX_BEHIND_MS)


def why_left_out(when_ms: int, at_ms: int) -> str | None:
    """Why a sample that the target dates `when_ms` stays here, in a scrape at `at_ms`; None: it does not."""
    if is_in_time(when_ms, at_ms):
        return None
    return TOO_NEW if when_ms > at_ms else TOO_OLD


def is_in_time(when_ms: int, at_ms: int) -> bool:
    """Whether a target may say of a sample or exemplar that it is of `when_ms`, in a scrape at `at_ms`."""
    return earliest_ms(at_ms) <= when_ms <= at_ms + MAX_AHEAD_MS
