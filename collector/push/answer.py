"""What the gateway said to a push, and what follows from it. Pure.

Remote write 2.0 lets a sender drop what was refused with a 4xx. We drop on one answer alone: a 400 that carries the
Written headers, so that it comes from a gateway which read the body, not from a proxy or a wrong address; and then
only the smallest part that is refused by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from collector.push.version import WireProtocol
from collector.wire.headers import SAMPLES_WRITTEN
from kernel.errors import truncate

MAX_RETRY_AFTER_SECONDS = 3600.0


class Verdict(StrEnum):
    """What to do with the push."""

    ACCEPTED = "accepted"
    RETRY = "retry"
    OTHER_VERSION = "other_version"  # the receiver does not speak this protocol
    REJECTED = "rejected"  # something in it is bad: bisect
    UNKNOWN_STATE = "unknown_state"  # frames build on what the receiver lost: send roots, then these again
    TOO_LARGE = "too_large"  # bisect; alone it may still be a proxy's limit


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or the lack of one (`status` 0)."""

    status: int
    text: str = ""
    headers: Mapping[str, str] | None = None  # names in lower case, or as they are asked for

    def header(self, name: str) -> str | None:
        headers = self.headers or {}
        return headers.get(name.lower(), headers.get(name))

    def verdict(self, protocol: WireProtocol, *, took_frames: bool = False) -> Verdict:
        """By status and headers. `took_frames`: the receiver has given receipts, so it is a gateway of ours.

        Of frames a 2xx is only half an answer: the receipt in it must be good.
        """
        written = self.header(SAMPLES_WRITTEN)
        if 200 <= self.status < 300:
            # "2xx without Written headers": a receiver that took the body for version 1 and dropped it.
            if protocol is WireProtocol.RW2 and written is None:
                return Verdict.OTHER_VERSION
            return Verdict.ACCEPTED
        if self.status == 415:
            return Verdict.RETRY if protocol is WireProtocol.RW1 else Verdict.OTHER_VERSION
        if self.status == 409 and protocol is WireProtocol.FRAMES:
            return Verdict.UNKNOWN_STATE
        if self.status == 400 and written is not None:
            return Verdict.REJECTED
        if self.status == 400 and protocol is WireProtocol.FRAMES and not took_frames:
            return Verdict.OTHER_VERSION  # a receiver that takes every body for compressed remote write
        return Verdict.TOO_LARGE if self.status == 413 else Verdict.RETRY

    def retry_after_seconds(self, now: datetime) -> float | None:
        """The Retry-After header, seconds or a date, bounded; None without a readable one."""
        text = (self.header("Retry-After") or "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(0.0, (moment - now).total_seconds()), MAX_RETRY_AFTER_SECONDS)

    def describe(self) -> str:
        """For a log line."""
        return truncate(f"HTTP {self.status}: {self.text}" if self.status else self.text)
