"""When to try again, and what an answer means. Pure but for the jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

from kernel.clock import to_ms

DELAYS_SECONDS = (0, 1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Before each attempt; the last goes on. Dense in the first minute: a page that waits is no page."""

JITTER = 0.2


class Outcome(StrEnum):
    """What became of an attempt; also a metric label."""

    DELIVERED = "delivered"
    REJECTED = "rejected"  # 3xx, 4xx: the receiver lives, and does not take it
    THROTTLED = "throttled"  # 408, 425, 429, or any failure with Retry-After
    UNAVAILABLE = "unavailable"  # 5xx, no connection, a broken answer, no answer in time
    FORBIDDEN = "forbidden"  # its address is private
    GONE = "gone"  # 410: the receiver asks never to be called again


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its answer. Times by the clock."""

    outcome: Outcome
    started_ms: int
    duration_ms: int
    status: int | None = None
    detail: str = ""
    retry_after_ms: int | None = None  # from the end of the attempt, already bounded


def classify(status: int, *, has_retry_after: bool) -> Outcome:
    """What an HTTP status means (Standard Webhooks: only 2xx is a success, a redirect is a failure)."""
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if status == 410:
        return Outcome.GONE
    if status in {408, 425, 429} or has_retry_after:
        return Outcome.THROTTLED
    return Outcome.REJECTED if status < 500 else Outcome.UNAVAILABLE


def delay_ms(failures: int, jitter: random.Random | None = None) -> int:
    """How long to wait after that many failures in a row, with up to 20 % of jitter."""
    base = DELAYS_SECONDS[min(failures, len(DELAYS_SECONDS) - 1)] * 1000
    return base + round(base * JITTER * (jitter or random).random())


def parse_retry_after(text: str, now_ms: int, limit_ms: int) -> int | None:
    """Milliseconds from a Retry-After of seconds or an HTTP date; None when it says nothing usable."""
    if text.strip().isascii() and text.strip().isdigit():
        return min(int(text.strip()[:9]) * 1000, limit_ms)
    try:
        moment = parsedate_to_datetime(text)
        return min(max(0, to_ms(moment) - now_ms), limit_ms)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
