"""What every push goes through, whatever its protocol: its turn, the tenant's rate, the append."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.errors import Refuse, Retry, SlowDown
from kernel.log import LogUnavailable, LogWriter, Position, Record, RecordTooLarge
from metering.gateway.answers import Busy
from metering.gateway.body import BodyInPieces
from metering.gateway.metrics import GatewayMetrics
from metering.gateway.settings import GatewaySettings
from metering.gateway.tenants import Kind, TenantState

T = TypeVar("T")
_Places = asyncio.Semaphore | asyncio.Lock
_HOLD_BACK_SECONDS, _LONGEST_HOLD_BACK_SECONDS = 1.0, 20.0
_BETWEEN_REFUSALS_SECONDS = 0.1  # a refused body is read all the same, as its connection is to be kept
_PIECES_SECONDS = 0.05  # what was read of a body in pieces before anyone could look at it
_GIVING_WAY = 5  # nice levels: a third of the share of the loop, and it is preempted when the loop wakes
_EXCESS_FACTOR = 4  # a second too much costs four seconds' samples: a quarter of one core for who does it always


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What pushes are taken in with."""

    settings: GatewaySettings
    writer: LogWriter
    clock: Clock
    metrics: GatewayMetrics


@dataclass(frozen=True, slots=True)
class Delivery:
    """A push that is in the log. `sha256` (hex) is of the body as it was sent."""

    sha256: str
    samples: int
    received_ms: int
    positions: Sequence[Position]
    histograms: int = 0
    exemplars: int = 0

    @property
    def rows(self) -> int:
        """Samples, histograms and exemplars."""
        return self.samples + self.histograms + self.exemplars


class Timed(Generic[T]):
    """Runs the work of a push in its thread, and knows afterwards what it cost, also when it failed."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.seconds = 0.0  # of the processor, so that waiting for other threads is not counted

    def run(self) -> T:
        """Do the work. Raises what it raises."""
        started = time.thread_time()
        try:
            return self._work()
        finally:
            self.seconds = time.thread_time() - started


class Turns:
    """Places that a push waits for, one after the other, each for so many seconds at most; then it is Busy."""

    def __init__(self, waiting_seconds: float, wanted: Sequence[_Places]) -> None:
        self._waiting_seconds, self._wanted = waiting_seconds, wanted
        self._taken: list[_Places] = []

    async def __aenter__(self) -> None:
        try:
            for turns in self._wanted:
                if turns.locked():
                    async with asyncio.timeout(self._waiting_seconds):
                        await turns.acquire()
                else:
                    await turns.acquire()  # at once
                self._taken.append(turns)
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, TimeoutError):
                raise Busy("too many pushes at once: try again", 2.0) from None
            raise

    async def __aexit__(self, *_: object) -> None:
        while self._taken:
            self._taken.pop().release()


class Intake:
    """Turns, rates and appends. One for the process."""

    def __init__(self, parts: IntakeParts) -> None:
        self.settings, self.clock, self.metrics = parts.settings, parts.clock, parts.metrics
        self._writer = parts.writer
        self._pushes = asyncio.Semaphore(parts.settings.concurrent_pushes)
        self._decodes = asyncio.Semaphore(parts.settings.concurrent_decodes)
        self._threads = ThreadPoolExecutor(parts.settings.concurrent_decodes, "decode", _give_way)

    @property
    def max_record_bytes(self) -> int:
        """The smaller of our limit and the broker's, which the log has read from it."""
        return self._writer.max_record_bytes

    @contextmanager
    def expected(self, state: TenantState, kind: Kind, size_bytes: int | None) -> Iterator[None]:
        """Around a push of so many bytes as its head says: raise SlowDown before any work is done for it.

        What it holds is guessed from the tenant's last push of this kind, and counted with those under way.
        """
        samples = state.guess(kind, size_bytes)
        self._check_rate(state, state.expected + samples)
        state.expected += samples
        try:
            yield
        finally:
            state.expected -= samples

    def _check_rate(self, state: TenantState, samples: float) -> None:
        if wait := state.bucket.wait_seconds(samples, self.clock.monotonic()):
            rate = self.settings.tenant.samples_per_second
            raise SlowDown(f"over the limit of {rate:g} samples a second", wait)

    async def hold_back(self, error: Refuse | Retry, state: TenantState) -> None:
        """Before a 429: wait a little, in no turn, since who floods comes again at once whatever the answer says.

        A tenant's refusals go out one by one, so that a hundred connections are not as many requests in a moment.
        """
        if isinstance(error, SlowDown) and not isinstance(error, Busy):
            now = self.clock.monotonic()
            after = max(now + _HOLD_BACK_SECONDS, state.refused_at + _BETWEEN_REFUSALS_SECONDS)
            state.refused_at = min(after, now + _LONGEST_HOLD_BACK_SECONDS)
            await self.clock.sleep(state.refused_at - now)
        if isinstance(error, BodyInPieces):
            self.charge(state, _PIECES_SECONDS)

    def turn(self, state: TenantState) -> Turns:
        """A place for a push's body in memory: the tenant's own, then one of all. Raises Busy."""
        return Turns(self.settings.waiting_seconds, (state.turns, self._pushes))

    @asynccontextmanager
    async def decode_turn(self, state: TenantState) -> AsyncIterator[None]:
        """A thread to decode in, in the same way. Raises Busy, SlowDown when the tenant has nothing left."""
        async with Turns(self.settings.waiting_seconds, (state.decodes, self._decodes)):
            self._check_rate(state, 1)
            yield

    async def decode(self, work: Callable[[], T]) -> T:
        """`work()` in a thread that gives way to the loop; the caller has a `decode_turn`. Raises what it does."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: context.run(work))

    async def close(self, _: object = None) -> None:
        """Let the threads end, which may still be at work. Idempotent."""
        self._threads.shutdown(wait=False)

    async def append(
        self, topic: str, records: Sequence[Record], state: TenantState, cost: int
    ) -> Sequence[Position]:
        """Append, and charge it: what the bucket lacks becomes a debt, as the work is done.

        Raises LogUnavailable (outcome unknown), RecordTooLarge.
        """
        state.bucket.charge(cost, self.clock.monotonic())
        if not records:
            return ()
        try:
            async with asyncio.timeout(self.settings.append_seconds):
                crash_point("gateway.checked")
                with self.metrics.append_seconds.time():
                    positions = await self._writer.append(topic, records)
                crash_point("gateway.appended")
                return positions
        except TimeoutError:
            state.bucket.give_back(cost)
            raise LogUnavailable(f"no answer within {self.settings.append_seconds:g} seconds") from None
        except (Retry, RecordTooLarge):
            state.bucket.give_back(cost)
            raise
        except Refuse as error:  # a topic that is not there is our fault: the sender must keep the push
            state.bucket.give_back(cost)
            raise LogUnavailable(f"the log refuses: {error}") from error

    def charge(self, state: TenantState, excess_seconds: float) -> None:
        """Charge work beyond what such a push usually costs, as the samples that could have come in that time."""
        samples = _EXCESS_FACTOR * max(0.0, excess_seconds) * self.settings.tenant.samples_per_second
        state.bucket.charge(samples, self.clock.monotonic())


def _give_way() -> None:
    """On one core, a body that is decoded would else run on for a slice of milliseconds after a small push came."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _GIVING_WAY)
