"""One target's life: scrape at its own offset in the interval, store, end with stale markers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from collector.errors import RootNeeded, ScrapeFailed, SpoolUnavailable
from collector.exposition import ExpositionError, PageNeeded, PageStream
from collector.exposition.protobuf import ProtobufReader, is_protobuf
from collector.left_meta import FrameMeta
from collector.scrape.context import ScrapeContext
from collector.scrape.fetch import Fetcher, Page, TakePage
from collector.scrape.series import LimitExceeded
from collector.scrape.state import Scrape, TargetState
from collector.scrape.target import Target
from collector.scrape.times import TOO_NEW, TOO_OLD
from collector.spool.options import Draft
from kernel.errors import truncate
from kernel.logs import logger

T = TypeVar("T")
_log = logger("scrape")
SMALL_BODY_BYTES = 64 * 1024  # below it, the work costs less than the hop to a thread
SMALL_SCRAPE = 2_000  # rows, as above
_LEFT_OUT = {
    "too_new": TOO_NEW,
    "too_old": TOO_OLD,
    "over_limit": "new series over sample_limit: known ones stay, these do not leave",
    "too_long": "labels of over 32 kB, or a native histogram of over 256 kB: they fit into no frame",
}


class TargetLoop:
    """Scrapes one target until told to stop."""

    def __init__(
        self,
        target: Target,
        state: TargetState,
        fetcher: Fetcher,
        context: ScrapeContext,
        protobuf: ProtobufReader | None = None,
    ) -> None:
        self.target = target
        self.last_error: str | None = None
        self.last_scrape_ms: int | None = None
        self.last_seconds = 0.0
        self.last_samples = 0
        self._state = state
        self._fetcher = fetcher
        self._context = context
        self._protobuf = protobuf or ProtobufReader()
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
            due += interval * max(1, math.floor(late / interval))  # one that was just missed is made up for
        await self._end()

    async def scrape(self) -> None:
        """One scrape, stored or recorded as a gap."""
        clock = self._context.clock
        at_ms, started = clock.now_ms(), clock.monotonic()
        tokens = [lane.horizon.begin(at_ms) for lane in self._context.lanes]
        try:
            for take in (self._stream, None):
                page = await self._unless_stopped(self._fetch(take))
                if page is None:
                    return
                with suppress(PageNeeded):  # before anything of it was stored; not of a page that is whole
                    scrape = await self._read(page, at_ms, clock.monotonic() - started)
                    break
            if isinstance(page, Page):
                self._fetcher.done(page)
            await self._store(scrape, tokens)
        finally:
            self._abandon(tokens)

    def _abandon(self, tokens: Sequence[int]) -> None:
        for lane, token in zip(self._context.lanes, tokens, strict=True):
            lane.horizon.abandon(token)

    def _stream(self, content_type: str) -> PageStream | None:
        return None if is_protobuf(content_type) else self._state.stream(content_type)

    async def _fetch(self, take: TakePage | None) -> Page | ScrapeFailed:
        try:
            return await self._fetcher.fetch(self.target, take)
        except ScrapeFailed as failure:
            return failure

    async def _read(self, page: Page | ScrapeFailed, at_ms: int, seconds: float) -> Scrape:
        self.last_scrape_ms, self.last_seconds, self.last_samples = at_ms, seconds, 0
        if isinstance(page, ScrapeFailed):
            return self._failed(str(page), at_ms, seconds)
        parts = self._parse(page, at_ms, seconds)
        is_small = page.stream is None and len(page.body) <= SMALL_BODY_BYTES
        try:
            while True:
                scrape = next(parts) if is_small else await asyncio.to_thread(next, parts)
                if not scrape.is_announcement:
                    break
                await self._store(scrape, None)
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

    def _parse(self, page: Page, at_ms: int, seconds: float) -> Iterator[Scrape]:
        if page.stream is not None:
            yield from self._state.scraped_stream(page.stream, at_ms, seconds)
        elif is_protobuf(page.content_type):
            yield self._state.scraped_rows(self._protobuf.read(bytes(page.body)), at_ms, seconds)
        else:
            yield from self._state.scraped_in_parts(page.body, page.content_type, at_ms, seconds)

    def _tell_left_out(self, scrape: Scrape) -> None:
        """A warning when it begins, not at each scrape."""
        numbers = scrape.fates()
        left_out = {fate for fate in _LEFT_OUT if numbers[fate]}
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

    async def _store(self, scrape: Scrape, tokens: list[int] | None) -> None:
        """Lanes and other receivers at once: each waits for its own disk. No tokens: nothing is complete yet."""
        lanes = range(len(self._context.lanes))
        await asyncio.gather(*(self._store_lane(scrape, lane, tokens) for lane in lanes), self._copy(scrape))

    async def _copy(self, scrape: Scrape) -> None:
        if self._context.receivers is None:
            return
        for stream, lane in zip(self._state.streams, scrape.lanes, strict=True):
            await self._context.receivers.take(stream.table, lane.tick)

    async def _store_lane(self, scrape: Scrape, number: int, tokens: list[int] | None) -> None:
        lane = self._context.lanes[number]
        while True:
            generation = lane.sink.generation
            draft = await self._encode(scrape, number, generation)
            if draft is None:
                self._state.stored(scrape, number)
                return
            if lane.sink.generation != generation:
                continue
            # From here to where `append` has queued the draft, nothing else runs: what is queued behind it may say
            # that everything up to its own time is there.
            if tokens is not None:
                draft = replace(draft, complete_through_ms=lane.horizon.complete(tokens[number]))
            try:
                await lane.sink.append(draft, generation)
            except RootNeeded:
                if tokens is not None:
                    tokens[number] = lane.horizon.begin(scrape.at_ms)
                continue
            except SpoolUnavailable as error:
                self.last_error = truncate(str(error))
                self._context.metrics.spool_failures.labels(lane.name.value).inc()
                return
            self._state.stored(scrape, number)
            self._context.metrics.frames.labels(lane.name.value).inc()
            return

    async def _encode(self, scrape: Scrape, number: int, generation: int) -> Draft | None:
        if scrape.size(number) > SMALL_SCRAPE:
            return await asyncio.to_thread(self._draft, scrape, number, generation)
        return self._draft(scrape, number, generation)

    def _draft(self, scrape: Scrape, number: int, generation: int) -> Draft | None:
        blocks = self._state.encode(scrape, number, generation)
        if not blocks:
            return None
        samples, size = sum(block.samples for block in blocks), sum(len(block.content) for block in blocks)
        families = {
            name: (count, size * count // max(1, samples))
            for name, count in self._state.families(scrape, number).items()
        }
        return Draft(blocks, FrameMeta(families, self._state.new_series(scrape, number)).render(), samples)

    async def _end(self) -> None:
        at_ms = self._context.clock.now_ms()
        tokens = [lane.horizon.begin(at_ms) for lane in self._context.lanes]
        try:
            await self._store(self._state.ended(at_ms), tokens)
        finally:
            self._abandon(tokens)

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
        for fate, number in scrape.fates().items():
            if number:
                samples.labels(fate).inc(number)


def _shown(target: Target) -> str:
    """A URL for the log, without its query: that may hold a secret."""
    return target.url.partition("?")[0]
