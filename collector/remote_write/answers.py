"""What a receiver's answer means (remote write 2.0-rc.4, "Retries and backoff", "Partial write"). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from collector.push.answer import Answer
from collector.wire.headers import EXEMPLARS_WRITTEN, HISTOGRAMS_WRITTEN, SAMPLES_WRITTEN


class Outcome(StrEnum):
    """What to do next."""

    DONE = "done"  # taken, or what it says it did not take is lost
    RETRY = "retry"
    DROP = "drop"  # it never will be taken
    OTHER_VERSION = "other_version"


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a request."""

    samples: int = 0
    histograms: int = 0
    exemplars: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.samples + other.samples, self.histograms + other.histograms, self.exemplars + other.exemplars
        )

    def minus(self, other: Counts) -> Counts:
        """What is left; never less than none."""
        return Counts(
            max(0, self.samples - other.samples),
            max(0, self.histograms - other.histograms),
            max(0, self.exemplars - other.exemplars),
        )


def judge(answer: Answer, *, version_2: bool, retry_on_429: bool) -> Outcome:
    """The outcome of a request."""
    if 200 <= answer.status < 300:
        # A receiver that knows 2.0 says what it wrote; one that does not has taken the body for 1.0 and dropped it.
        return Outcome.DONE if not version_2 or written(answer) is not None else Outcome.OTHER_VERSION
    if answer.status == 415 and version_2:
        return Outcome.OTHER_VERSION
    if answer.status == 429:
        return Outcome.RETRY if retry_on_429 else Outcome.DROP
    return Outcome.RETRY if answer.status == 0 or answer.status >= 500 else Outcome.DROP


def written(answer: Answer) -> Counts | None:
    """What the receiver says it wrote; None when it does not say. A header that is missing counts as 0 then."""
    found = [answer.header(name) for name in (SAMPLES_WRITTEN, HISTOGRAMS_WRITTEN, EXEMPLARS_WRITTEN)]
    if all(text is None for text in found):
        return None
    return Counts(*(int(text) if text and text.isascii() and text.isdigit() else 0 for text in found))
