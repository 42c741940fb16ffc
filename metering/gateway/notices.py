"""Log lines about what others do wrong: once for each (who, reason) in an interval, or they could fill a disk."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from kernel.clock import Clock
from kernel.logs import logger
from metering.gateway.buckets import TokenBucket

INTERVAL_SECONDS = 60.0
MAX_REMEMBERED = 10_000
LINES_A_SECOND, BURST_LINES = 10.0, 200.0  # of all together: addresses are cheap, so are names of connections
_log = logger("gateway")


@dataclass(slots=True)
class _Said:
    at: float
    unsaid: int = 0


class Notices:
    """Remembers what was said. Metrics count every event; this is for reading."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: OrderedDict[tuple[str, str], _Said] = OrderedDict()
        self._lines = TokenBucket.full(LINES_A_SECOND, BURST_LINES, clock.monotonic())

    def warn(self, event: str, who: str, reason: str, **fields: object) -> None:
        """Log `event`, or count it for the next line when `who` did the same within the interval."""
        now, key = self._clock.monotonic(), (who, f"{event} {reason}")
        said = self._said.get(key)
        if said is not None and now - said.at < INTERVAL_SECONDS:
            said.unsaid += 1
            return
        if self._lines.take(1, now):
            return
        unsaid = said.unsaid if said else 0
        self._said[key] = _Said(now)
        self._said.move_to_end(key)
        if len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)
        _log.warning(event, who=who, reason=reason, not_logged=unsaid, **fields)
