"""Time is injected. This is the only file that reads the machine's clock."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep. Wall time may step; monotonic time may not."""

    def now(self) -> datetime:
        """The wall clock, timezone-aware UTC."""

    def now_ms(self) -> int:
        """The wall clock in milliseconds since 1970-01-01T00:00Z."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never steps back."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less yields once."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class VirtualClock:
    """A clock that moves only when told to: `advance` wakes the sleepers in order of time."""

    def __init__(self, start: datetime | None = None) -> None:
        self._wall_ms = to_ms(start or datetime(2026, 1, 1, tzinfo=UTC))
        self._monotonic_ms = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> datetime:
        return from_ms(self._wall_ms)

    def now_ms(self) -> int:
        return self._wall_ms

    def monotonic(self) -> float:
        return self._monotonic_ms / 1000

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self._monotonic_ms + max(1, round(seconds * 1000))
        heapq.heappush(self._sleepers, (due, next(self._order), woken))
        await woken

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as NTP would."""
        self._wall_ms += round(seconds * 1000)

    async def advance(self, seconds: float) -> None:
        """Move both clocks, waking every sleeper at its own time and letting it run."""
        target = self._monotonic_ms + round(seconds * 1000)
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, woken = heapq.heappop(self._sleepers)
            self._move_to(due)
            if not woken.done():
                woken.set_result(None)
            await _settle()
        self._move_to(target)
        await _settle()

    def _move_to(self, monotonic_ms: int) -> None:
        self._wall_ms += monotonic_ms - self._monotonic_ms
        self._monotonic_ms = monotonic_ms


async def _settle() -> None:
    # Ten turns let a chain of awaits between two sleeps run to its next sleep.
    for _ in range(10):
        await asyncio.sleep(0)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, exactly (floor); naive ones raise ValueError."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime of `milliseconds` since the epoch, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
