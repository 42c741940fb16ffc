"""A lane of the spool: an ordered queue of frames on disk, from scrape to the gateway's answer.

`append` returns when the frame is on disk and synced: from then on it survives `kill -9` and a power cut.
Frames come out in the order in which they went in, fresh ones beside a backlog if there is one, and leave, segment
by segment, once settled. A boot has an epoch, greater than all before; sequences count from 1 in it, without a gap.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from collector.errors import RootNeeded, SpoolFull, SpoolLocked, SpoolUnavailable
from collector.spool.bodies import Join, PendingBody, join_drafts
from collector.spool.epochs import Epochs
from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.spool.losses import Losses
from collector.spool.options import Draft, LaneOptions, PayloadDraft
from collector.spool.reader import SegmentReader
from collector.spool.settled import Settled
from collector.spool.shelf import Shelf
from collector.spool.writer import SegmentWriter
from collector.wire.frames import MAX_BODY_BYTES, join_blocks
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("spool")


@dataclass(frozen=True, slots=True)
class _Waiting:
    draft: Draft | PayloadDraft
    generation: int
    done: asyncio.Future[int]


class LaneSpool:
    """One lane. Open it in one process only; `open` first, `close` last."""

    def __init__(self, folder: Path, options: LaneOptions, clock: Clock, join: Join = join_blocks) -> None:
        self.folder = folder
        self.options = options
        self.gaps = GapRecords(folder)
        self.settled = Settled(folder / "settled.json")
        self.shelf = Shelf(folder, options, clock, self.gaps, self.settled)
        self.epochs = Epochs(folder / "epoch.json")
        self.boundary = (0, 0)  # groups below it are the backlog
        self.arrived = asyncio.Event()
        self.backlog = asyncio.Event()
        self.space = asyncio.Event()
        self.empty = asyncio.Event()
        self._writer = SegmentWriter(folder, options, clock, self.shelf, join)
        self._losses = Losses(self.shelf, self.settled, self.gaps, self._writer, clock)
        self.reader = SegmentReader(self.shelf, self.settled, self._losses.damaged)
        self._clock = clock
        self._lock: int | None = None
        self._pending: list[_Waiting] = []
        self._pending_bytes = 0
        self._enough = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the lane and begin a new epoch. Blocking. Raises SpoolLocked, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        self.settled.load()
        self.shelf.load()
        self.epochs.load()
        found = [*self.shelf.ends(self.epochs.ends), self.settled.newest]
        self._writer.epoch = self.epochs.begin(self._clock.now_ms(), found)
        self._losses.find_lost_segments()
        self.gaps.reserve()

    def _take_lock(self) -> None:
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise SpoolLocked(
                f"{self.folder} is open in another process: stop that collector first, or name another spool folder"
            ) from None

    async def close(self) -> None:
        """Write what is pending, then let the lane go. Idempotent."""
        self._enough.set()
        if self._flusher is not None:
            await asyncio.gather(self._flusher, return_exceptions=True)
        self.release()

    def release(self) -> None:
        """Let the lane go, if nothing is being written. Idempotent."""
        self._writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- in --------------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The group that blocks encoded now must belong to."""
        return self._writer.generation()

    async def append(self, draft: Draft | PayloadDraft, generation: int | None = None) -> int:
        """Add a draft; returns the sequence of the push that completes it, once it is synced. Order: as called.

        Raises RootNeeded (nothing was written: encode again for `generation` as it is now), SpoolFull (nothing was
        written, wait for `space`), SpoolUnavailable (a gap was recorded, and the next of the stream is a root).
        """
        current = self.generation
        if isinstance(draft, Draft) and generation != current:
            raise RootNeeded(f"group {generation} is closed, {current} is open")
        if not self.options.drop_oldest and self.bytes + draft.size > self.options.quota:
            self.space.clear()
            raise SpoolFull(f"{self.folder} holds {self.bytes} bytes of its {self.options.quota}")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append(_Waiting(draft, current, done))
        self._pending_bytes += draft.size
        if self._pending_bytes >= MAX_BODY_BYTES:
            self._enough.set()
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name=f"spool.{self.options.lane}")
        return await asyncio.shield(done)

    async def _flush(self) -> None:
        while self._pending:
            await self._linger()
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            self._enough.clear()
            for generation, waiting in groupby(batch, key=lambda one: one.generation):
                await self._store(list(waiting), generation)

    async def _linger(self) -> None:
        if self.options.linger <= 0 or self._enough.is_set():
            return
        both = [
            asyncio.ensure_future(one) for one in (self._enough.wait(), self._clock.sleep(self.options.linger))
        ]  # fmt: skip
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)

    async def _store(self, batch: list[_Waiting], generation: int) -> None:
        bodies = join_drafts(one.draft for one in batch)
        try:
            numbers = await asyncio.to_thread(self._write, bodies, generation)
        except (OSError, ValueError) as error:
            self._writer.roll()  # a segment that is written no more can make room
            try:
                await asyncio.to_thread(self._lost, batch, error)
            finally:
                for one in batch:
                    one.done.set_exception(SpoolUnavailable(f"{self.folder} did not take a frame: {error}"))
                    one.done.exception()  # an appender that was cancelled does not look
            return
        waiting = iter(batch)
        for body, number in zip(bodies, numbers, strict=True):
            for _ in range(body.ends):
                next(waiting).done.set_result(number)
        self.empty.clear()
        self.arrived.set()

    def _write(self, bodies: list[PendingBody], generation: int) -> list[int]:
        try:
            return self._writer.write(bodies, generation)
        except OSError:
            if not self.options.keep or not self.shelf.trim_archive(spare=2 * self.options.segment):
                raise
        return self._writer.write(bodies, generation)  # what was delivered made room for what was not

    def _lost(self, batch: list[_Waiting], error: Exception) -> None:
        samples = sum(one.draft.samples for one in batch)
        self.gaps.record(Gap(GapReason.DISK, self._clock.now_ms(), samples=samples, detail=str(error)))
        _log.error("spool_write_failed", folder=str(self.folder), samples=samples, error=str(error))

    # -- out -------------------------------------------------------------------------------------------------

    async def next_frame(self) -> Frame:
        """The oldest fresh frame not yet returned, in order; waits for one. Without a backlog all are fresh."""
        while True:
            self.arrived.clear()
            frame = await asyncio.to_thread(self._read, self.boundary)
            if frame is not None:
                return frame
            if not self.arrived.is_set() and not self.backlog.is_set():
                self.empty.set()
            await self.arrived.wait()

    async def next_of_backlog(self) -> Frame:
        """The oldest frame of the backlog not yet returned, in order; waits for a backlog."""
        while True:
            await self.backlog.wait()
            boundary = self.boundary
            frame = await asyncio.to_thread(self._read, (0, 0), boundary)
            if frame is not None:
                return frame
            if boundary == self.boundary:
                self.backlog.clear()
                self.arrived.set()  # whoever waits for `empty` looks again

    def _read(self, at_least: tuple[int, int], below: tuple[int, int] | None = None) -> Frame | None:
        frame = self.reader.read(at_least, below)
        if frame is None:
            self.shelf.finish()
        return frame

    def part_backlog(self) -> None:
        """What waits now becomes the backlog, and fresh frames go beside it. Call it between fresh frames."""
        self.boundary = self.epoch, self._writer.roll()
        self.backlog.set()
        _log.info("backlog_parted", lane=self.options.lane.value, bytes=self.pending_bytes)

    def part_old_backlog(self, *, took_frames: bool) -> None:
        """At the start: what an earlier boot left, if it is old, goes beside what is scraped from now on."""
        oldest = self.shelf.oldest_modified()
        bound = self._clock.now_ms() / 1000 - self.options.fresh_after
        if took_frames and self.options.fresh_after and oldest is not None and oldest < bound:
            self.part_backlog()

    @property
    def has_fresh(self) -> bool:
        """Whether a fresh frame waits to be taken."""
        return self.shelf.next_unread(self.boundary) is not None

    async def settle(self, frame: Frame) -> None:
        """The gateway has this frame, or a gap says why not: it will not be sent again. Durable on return."""
        await asyncio.to_thread(self._settle, frame)
        self.space.set()

    async def lose(self, frame: Frame, detail: str) -> None:
        """Nobody can read this frame: a gap record says so, once, and it is settled."""
        await asyncio.to_thread(self._losses.undecodable, frame, detail)
        await self.settle(frame)

    async def drained(self) -> None:
        """Until whoever takes frames has asked for one and there was none: all before it are settled."""
        await self.empty.wait()

    def _settle(self, frame: Frame) -> None:
        with self.shelf.lock:
            self.settled.add(*frame.position)
            for name, segment in self.shelf.segments.items():
                if name.epoch == frame.epoch and segment.waiting.pop(frame.sequence, None) is not None:
                    segment.settled_bytes += frame.stored_bytes
            oldest = min((name.epoch for name in self.shelf.segments), default=self.epoch)
            self.settled.forget_before(min(oldest, self.epoch))
            self.settled.save()
        crash_point("spool.acknowledged")
        self.shelf.finish()

    def is_all_before_settled(self, frame: Frame) -> bool:
        """Whether "complete through" may be said with this frame: nothing older waits."""
        with self.shelf.lock:
            oldest = min((name.epoch for name, one in self.shelf.segments.items() if not one.is_done), default=0)
            return oldest in (0, frame.epoch) and self.settled.is_complete_below(*frame.position)

    # -- what is seen from outside ---------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._writer.epoch

    @property
    def bytes(self) -> int:
        """Bytes on disk, settled ones of unfinished segments included, kept ones not."""
        return self.shelf.bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes that are not settled."""
        return self.shelf.pending_bytes

    def oldest_seconds(self) -> float:
        """Age of the oldest frame that is not settled, as far as is known; 0 when there is none."""
        oldest = self.shelf.oldest_ms()
        return 0.0 if oldest is None else max(0.0, (self._clock.now_ms() - oldest) / 1000)

    @property
    def dropped_frames(self) -> int:
        """Frames given up for the quota since start."""
        return self.shelf.dropped_frames

    @property
    def last_sequence(self) -> int:
        """The sequence of the newest synced frame of this boot."""
        return self._writer.sequence
