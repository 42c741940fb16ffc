"""One target's life: scrape at its own offset in the interval, store, end with stale markers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cramjam

from collector.errors import ScrapeFailed, SpoolUnavailable
from collector.exposition import ExpositionError
from collector.left_meta import FrameMeta, listed, tally
from collector.metrics import CollectorMetrics
from collector.scrape.fetch import Fetcher, Page
from collector.scrape.horizon import Horizon
from collector.scrape.series import LimitExceeded
from collector.scrape.state import Scrape, TargetState
from collector.scrape.target import Target
from collector.spool.options import PayloadDraft
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.logs import logger

T = TypeVar("T")
_log = logger("scrape")
_SAMPLE_BYTES = 18
SMALL_BODY_BYTES = 64 * 1024  # below it, the work costs less than the hop to a thread
_LEFT_OUT = {
    "too_new": "dated by the target over 10 minutes ahead: set its clock, or honor_timestamps: false",
    "over_limit": "new series over sample_limit: known ones stay, these do not leave",
}


class FrameSink(Protocol):
    """Where scrapes are stored: the live lane of the spool."""

    async def append(self, draft: PayloadDraft) -> int:
        """Durable when it returns. Raises SpoolUnavailable."""


@dataclass(frozen=True, slots=True)
class ScrapeContext:
    """What all targets share."""

    clock: Clock
    sink: FrameSink
    horizon: Horizon
    metrics: CollectorMetrics


class TargetLoop:
    """Scrapes one target until told to stop."""

    def __init__(self, target: Target, state: TargetState, fetcher: Fetcher, context: ScrapeContext) -> None:
        self.target = target
        self.last_error: str | None = None
        self.last_scrape_ms: int | None = None
        self.last_seconds = 0.0
        self.last_samples = 0
        self._state = state
        self._fetcher = fetcher
        self._context = context
        self._left_out: set[str] = set()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after what is being stored; a page that is being fetched is given up."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`; then stale markers for every series."""
        clock, interval = self._context.clock, self.target.interval_seconds
        due = clock.monotonic() + self._first_wait()
        while not self._stopping.is_set():
            await self._unless_stopped(clock.sleep(due - clock.monotonic()))
            if self._stopping.is_set():
                break
            await self.scrape()
            late = clock.monotonic() - due
            due += interval * max(1, math.ceil(late / interval))
        await self._end()

    async def scrape(self) -> None:
        """One scrape, stored or recorded as a gap."""
        context = self._context
        at_ms, started = context.clock.now_ms(), context.clock.monotonic()
        token = context.horizon.begin(at_ms)
        try:
            page = await self._unless_stopped(self._fetch())
            seconds = context.clock.monotonic() - started
            if page is None:
                return
            scrape = await self._read(page, at_ms, seconds)
            await self._store(scrape, token)
        finally:
            context.horizon.abandon(token)

    async def _fetch(self) -> Page | ScrapeFailed:
        try:
            return await self._fetcher.fetch(self.target)
        except ScrapeFailed as failure:
            return failure

    async def _read(self, page: Page | ScrapeFailed, at_ms: int, seconds: float) -> Scrape:
        self.last_scrape_ms, self.last_seconds, self.last_samples = at_ms, seconds, 0
        if isinstance(page, ScrapeFailed):
            return self._failed(str(page), at_ms, seconds)
        arguments = (page.body, page.content_type, at_ms, seconds)
        try:
            if len(page.body) <= SMALL_BODY_BYTES:
                scrape = self._state.scraped(*arguments)
            else:
                scrape = await asyncio.to_thread(self._state.scraped, *arguments)
        except (ExpositionError, LimitExceeded) as error:
            return self._failed(str(error), at_ms, seconds)
        if self.last_error is not None:
            _log.info("target_is_back", job=self.target.job_name, target=_shown(self.target))
        self.last_error = None
        self._context.metrics.scrapes.labels("ok").inc()
        self.last_samples = scrape.scraped
        self._count(scrape)
        self._tell_left_out(scrape)
        return scrape

    def _tell_left_out(self, scrape: Scrape) -> None:
        """A warning when it begins, not at each scrape."""
        numbers = {"too_new": scrape.too_new, "over_limit": scrape.over_limit}
        left_out = {fate for fate, number in numbers.items() if number}
        for fate in sorted(left_out - self._left_out):
            _log.warning(
                "samples_left_out",
                job=self.target.job_name,
                target=_shown(self.target),
                samples=numbers[fate],
                reason=_LEFT_OUT[fate],
            )
        self._left_out = left_out

    def _failed(self, reason: str, at_ms: int, seconds: float) -> Scrape:
        if self.last_error is None:
            _log.warning("scrape_failed", job=self.target.job_name, target=_shown(self.target), reason=reason)
        self.last_error = truncate(reason)
        self._context.metrics.scrapes.labels("failed").inc()
        return self._state.failed(at_ms, seconds)

    async def _store(self, scrape: Scrape, token: int) -> None:
        if not scrape.series:
            return
        if len(scrape.series) > 1000:
            draft = await asyncio.to_thread(self._draft, scrape)
        else:
            draft = self._draft(scrape)
        through = self._context.horizon.complete(token)
        try:
            await self._context.sink.append(
                PayloadDraft(draft.samples, draft.meta, draft.payload, through),
            )
        except SpoolUnavailable as error:
            self.last_error = truncate(str(error))
            self._context.metrics.spool_failures.labels("billing").inc()
            return
        self._state.stored(scrape)
        self._context.metrics.frames.labels("billing").inc()

    def _draft(self, scrape: Scrape) -> PayloadDraft:
        payload = bytes(cramjam.snappy.compress_raw(self._state.encode(scrape)))
        families = tally(
            (one.family, len(one.prepared.head) + _SAMPLE_BYTES) for one in scrape.series if one.prepared
        )
        new = [listed(one.family, one.labels) for one in scrape.series if not one.listed]
        return PayloadDraft(len(scrape.series), FrameMeta(families, new).render(), payload)

    async def _end(self) -> None:
        at_ms = self._context.clock.now_ms()
        token = self._context.horizon.begin(at_ms)
        try:
            await self._store(self._state.ended(at_ms), token)
        finally:
            self._context.horizon.abandon(token)

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None, and the work given up, when `stop` comes first."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                return None
            return task.result()
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    def _first_wait(self) -> float:
        interval = self.target.interval_seconds
        now = self._context.clock.now_ms() / 1000
        return (self.target.offset_seconds() - now) % interval

    def _count(self, scrape: Scrape) -> None:
        samples = self._context.metrics.samples
        for fate, number in (
            ("scraped", scrape.scraped),
            ("denied", scrape.denied),
            ("over_limit", scrape.over_limit),
            ("duplicate", scrape.duplicates),
            ("collided", scrape.collided),
            ("too_new", scrape.too_new),
        ):
            if number:
                samples.labels(fate).inc(number)


def _shown(target: Target) -> str:
    """A URL for the log, without its query: that may hold a secret."""
    return target.url.partition("?")[0]
