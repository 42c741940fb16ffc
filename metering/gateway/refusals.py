"""Pushes that were accepted and can't be stored: read from the log, told to their collectors until they have heard.

The lake appends a refusal to a topic; each gateway reads the whole topic, since each may be the one that a
collector speaks to. A collector says with every push which refusals are on its disk, by the offset of the newest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kernel.clock import Clock
from kernel.errors import DeadLetter, NotFound, Retry
from kernel.identity import Identity
from kernel.ids import CollectorId, Tenant
from kernel.log import Log, LogReader
from kernel.logs import logger
from metering.gateway.metrics import GatewayMetrics
from metering.refusal import REFUSALS_TOPIC, Refusal, decode_refusal

KEEP_MS = 7 * 86_400_000  # read again at a start; what is older was told long ago, or its collector is gone
MAX_PER_COLLECTOR = 1_000
MAX_PER_ANSWER = 50  # about 30 kB of JSON
AGAIN_SECONDS = 60.0  # between two answers that tell the same, to a collector that does not say what it has
_POLL_SECONDS = 1.0
_POLL_RECORDS = 500
_log = logger("gateway")


@dataclass(slots=True)
class _Waiting:
    refusals: deque[Refusal] = field(default_factory=deque)
    told: float | None = None


class RefusedPushes:
    """What waits for its collector. On the event loop only."""

    def __init__(self, log: Log, clock: Clock, metrics: GatewayMetrics) -> None:
        self._log, self._clock, self._metrics = log, clock, metrics
        self._waiting: defaultdict[tuple[Tenant, CollectorId], _Waiting] = defaultdict(_Waiting)

    def for_answer(self, identity: Identity, seen: int | None) -> Sequence[Refusal]:
        """What to tell a collector now, oldest first. `seen`: the newest offset that it has, as it says."""
        key = identity.tenant, identity.collector
        waiting = self._waiting.get(key)
        if waiting is None:
            return ()
        refusals = waiting.refusals
        if seen is not None:
            while refusals and refusals[0].offset <= seen:
                refusals.popleft()
                waiting.told = None
        if not refusals:
            del self._waiting[key]
            return ()
        now = self._clock.monotonic()
        if waiting.told is not None and now - waiting.told < AGAIN_SECONDS:
            return ()
        waiting.told = now
        return list(refusals)[:MAX_PER_ANSWER]

    async def run(self) -> None:
        """Read the topic until cancelled; a log that is away is asked again."""
        while True:
            try:
                await self._log.ensure_topics({REFUSALS_TOPIC: 1})
                self._waiting.clear()
                reader = await self._log.reader("gateway", [REFUSALS_TOPIC], self._clock.now_ms() - KEEP_MS)
                try:
                    await self._follow(reader)
                finally:
                    await reader.close()
            except (Retry, NotFound) as error:
                _log.warning("refusals_not_read", error=str(error))
            await self._clock.sleep(_POLL_SECONDS)

    async def _follow(self, reader: LogReader) -> None:
        while True:
            for record in await reader.poll(_POLL_RECORDS, _POLL_SECONDS):
                try:
                    self._take(decode_refusal(record))
                except DeadLetter as error:
                    _log.warning("refusal_not_read", offset=record.offset, error=str(error))

    def _take(self, refusal: Refusal) -> None:
        waiting = self._waiting[refusal.header.tenant, refusal.header.collector]
        if len(waiting.refusals) >= MAX_PER_COLLECTOR:
            self._metrics.refusals_kept_back.inc()  # read again at the next start
            return
        waiting.refusals.append(refusal)
        waiting.told = None
