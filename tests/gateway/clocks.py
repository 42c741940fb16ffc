"""A clock that is wrong by as much as a test wants."""

from __future__ import annotations

from datetime import datetime, timedelta

from kernel.clock import SystemClock


class SkewedClock(SystemClock):
    """The machine's clock, `ahead_seconds` off. Sleeps are real but short."""

    def __init__(self, ahead_seconds: float = 0.0) -> None:
        self.ahead_seconds = ahead_seconds
        self.slept: list[float] = []

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_seconds)

    def now_ms(self) -> int:
        return super().now_ms() + round(self.ahead_seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(min(seconds, 0.2))
