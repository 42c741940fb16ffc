"""What a push that failed is answered, and what the log says of it: the first time, not each time."""

from __future__ import annotations

from aiohttp import hdrs, web

from collector.wire.errors import BodyTooLarge
from collector.wire.headers import EXEMPLARS_WRITTEN, HISTOGRAMS_WRITTEN, SAMPLES_WRITTEN
from kernel.errors import Conflict, InvalidInput, Refuse, Retry, SlowDown, truncate
from kernel.log import LogUnavailable
from metering.gateway.body import BodyInPieces, BodyTooSlow, Unsupported
from metering.gateway.buckets import retry_after
from metering.gateway.metrics import Outcome

_MAX_TEXT = 2000


class Busy(SlowDown):
    """No turn came in time: the gateway, or this tenant's share of it, is full."""


class UnknownFrames(Conflict):
    """What a frame builds on is not known here. `group` says which segment lacks its roots."""

    def __init__(self, group: int, message: str) -> None:
        super().__init__(message)
        self.group = group


class PartlyRefused(Refuse):
    """Some of the push was not written; `written` samples were, and so many histograms and exemplars."""

    def __init__(
        self, message: str, written: int, histograms: int = 0, exemplars: int = 0, refused: int = 0
    ) -> None:
        super().__init__(message)
        self.written, self.histograms, self.exemplars, self.refused = written, histograms, exemplars, refused


_ANSWERS = (  # the more special ones first
    (UnknownFrames, Outcome.UNKNOWN, 409),
    (BodyTooLarge, Outcome.TOO_LARGE, 413),
    (BodyTooSlow, Outcome.TOO_SLOW, 408),
    (Unsupported, Outcome.UNSUPPORTED, 415),
    (InvalidInput, Outcome.REFUSED, 400),
    (Busy, Outcome.BUSY, 503),
    (SlowDown, Outcome.LIMITED, 429),
    (LogUnavailable, Outcome.LOG_UNAVAILABLE, 503),
    (Retry, Outcome.LOG_UNAVAILABLE, 503),
)


def outcome_of(error: Refuse | Retry) -> tuple[Outcome, int]:
    """The outcome and the status of an error."""
    for kind, outcome, status in _ANSWERS:
        if isinstance(error, kind):
            return outcome, status
    is_partial = isinstance(error, PartlyRefused) and error.written + error.histograms > 0
    return (Outcome.PARTLY if is_partial else Outcome.REFUSED), 400


def refused_response(error: Refuse | Retry, status: int) -> web.Response:
    """The answer to a push that failed."""
    headers = written_headers(0)
    if isinstance(error, PartlyRefused):
        headers = written_headers(error.written, error.histograms, error.exemplars)
    if isinstance(error, Retry):
        wait = error.retry_after_seconds if isinstance(error, SlowDown) else 1.0
        headers[hdrs.RETRY_AFTER] = retry_after(wait)
    if isinstance(error, UnknownFrames):
        content = {"error": "unknown state", "group": error.group, "unknown": truncate(str(error))}
        return web.json_response(content, status=status, headers=headers)
    response = web.Response(status=status, text=f"{str(error)[:_MAX_TEXT]}\n", headers=headers)
    if isinstance(error, BodyTooLarge | BodyTooSlow | BodyInPieces):
        response.force_close()  # the rest of the body is not waited for
    return response


def written_headers(samples: int, histograms: int = 0, exemplars: int = 0) -> dict[str, str]:
    """What remote write 2.0 wants on every answer."""
    counts = {SAMPLES_WRITTEN: samples, HISTOGRAMS_WRITTEN: histograms, EXEMPLARS_WRITTEN: exemplars}
    return {name: str(count) for name, count in counts.items()}
