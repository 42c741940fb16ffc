"""How fast a backlog may go: a bucket of bytes, so that fresh frames and the customer's line have room."""

from __future__ import annotations

from kernel.clock import Clock


class ByteRate:
    """At most `per_second` bytes on average, and about one second's worth at once. 0: no bound."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._level = per_second
        self._at = clock.monotonic()

    async def take(self, size: int) -> None:
        """Wait until `size` bytes may be sent. More than a second's worth is allowed, and paid for by the next."""
        if self._per_second <= 0:
            return
        self._refill()
        while self._level <= 0:
            await self._clock.sleep(-self._level / self._per_second + 0.001)
            self._refill()
        self._level -= size

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._per_second, self._level + (now - self._at) * self._per_second)
        self._at = now
