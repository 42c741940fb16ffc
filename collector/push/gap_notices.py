"""Tells the gateway which numbers will never arrive, so that the vendor does not wait for them.

Every gap record with a number is told, in the order of the file, until a receipt for the notice holds; how far that
came is kept beside the records. What is told twice changes nothing at the vendor's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from collector.push.backoff import Backoff
from collector.push.parts import UploaderParts
from collector.push.transport import Push
from collector.push.version import RETRY_AFTER_MS, WireProtocol
from collector.spool.gaps import Gap, GapReason, load_told, save_told
from collector.spool.lane import LaneSpool
from collector.wire.gaps import MAX_RUNS, NOTICE_PART, GapRun, render_notice
from collector.wire.headers import SAMPLES_WRITTEN, PushHeaders
from kernel.logs import logger

_log = logger("push")
_FIRST_FRAMES_SECONDS, _MOST_SECONDS = 5.0, 300.0  # until a gateway took frames, nobody is there to be told


@dataclass(frozen=True, slots=True)
class Notice:
    """Runs of one epoch; `end`: the byte of the records up to which all is told with it."""

    epoch: int
    runs: tuple[GapRun, ...]
    end: int


class GapTeller:
    """One lane's. Call `wake` after a gap was recorded, from any thread."""

    def __init__(self, lane: LaneSpool, parts: UploaderParts, backoff: Backoff) -> None:
        self._lane = lane
        self._parts = parts
        self._backoff = backoff
        self._label = lane.options.lane.value
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """There is another record."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Tell until cancelled, what was recorded before the start too. Shipping never waits for it."""
        self._loop = asyncio.get_running_loop()
        self._news.set()
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._tell_all()
            except (OSError, sqlite3.Error) as error:
                _log.warning("gap_not_told", lane=self._label, error=str(error))
                self._news.set()
                await self._parts.clock.sleep(self._backoff.next_seconds())

    async def _tell_all(self) -> None:
        wait = _FIRST_FRAMES_SECONDS
        while (notice := await asyncio.to_thread(self._next)) is not None:
            if not notice.runs:
                await asyncio.to_thread(save_told, self._lane.folder, notice.end)
            elif not self._parts.version.took_frames:
                await self._parts.clock.sleep(wait)
                wait = min(2 * wait, _MOST_SECONDS)
            else:
                await self._tell(notice)

    async def _tell(self, notice: Notice) -> None:
        parts, proofs = self._parts, self._parts.proofs
        assert proofs is not None
        while parts.gate.reason() is not None:
            await parts.gate.opened()
        push = Push(self._headers(notice), render_notice(notice.runs), WireProtocol.GAPS)
        answer = await parts.sender.send(push)
        problem = answer.describe()
        if answer.status == 200:
            found = await proofs.judge.judge(push, answer, 0)
            if not isinstance(found, str):
                await asyncio.to_thread(proofs.store.append, found)
                await asyncio.to_thread(save_told, self._lane.folder, notice.end)
                self._count("told")
                self._backoff.reset()
                return
            problem = found
        if answer.status == 415 or (answer.status == 400 and answer.header(SAMPLES_WRITTEN) is not None):
            self._count("not_understood")
            _log.warning("gap_notice_refused", lane=self._label, answer=problem, again="in a day")
            await parts.clock.sleep(RETRY_AFTER_MS / 1000)
            return
        if not self._backoff.failures:
            _log.warning("gap_notice_failed", lane=self._label, answer=problem)
        self._count("retry")
        await parts.clock.sleep(self._backoff.next_seconds(answer.retry_after_seconds(parts.clock.now())))

    def _headers(self, notice: Notice) -> PushHeaders:
        first = min(run.first for run in notice.runs)
        # The push that would have said which epoch came before is itself among those that never come.
        previous = self._lane.epochs.before(notice.epoch) if first == 1 else None
        return PushHeaders(notice.epoch, first, self._lane.options.lane, NOTICE_PART, previous=previous)

    def _count(self, outcome: str) -> None:
        self._parts.metrics.gap_notices.labels(self._label, outcome).inc()

    def _next(self) -> Notice | None:
        """What is to be told next; without runs: records that have no number. None: all is told. Blocking."""
        untold = self._lane.gaps.load_from(load_told(self._lane.folder))
        for epoch, gaps in groupby(untold, key=lambda one: one[0].epoch if one[0].first else None):
            return self._notice(epoch, list(gaps))
        return None

    def _notice(self, epoch: int | None, gaps: Sequence[tuple[Gap, int]]) -> Notice:
        if epoch is None:
            return Notice(0, (), gaps[-1][1])
        runs: dict[tuple[int, int, GapReason], int | None] = {}
        through = 0
        for gap, end in gaps:
            through = end
            for run in self._runs(gap, epoch):
                key = run.first, run.last, run.reason  # a push that was refused in parts has a record for each
                known = runs.get(key, 0)
                runs[key] = None if known is None or run.samples is None else known + run.samples
            if len(runs) == MAX_RUNS:
                break
        return Notice(epoch, tuple(GapRun(*key, samples) for key, samples in sorted(runs.items())), through)

    def _runs(self, gap: Gap, epoch: int) -> Iterator[GapRun]:
        if gap.first is not None:
            last = gap.last if gap.last is not None else max(gap.first, self._lane.epochs.ends.get(epoch, 0))
            if last >= gap.first:
                yield GapRun(gap.first, last, gap.reason, gap.samples)
