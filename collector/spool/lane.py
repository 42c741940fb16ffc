"""A lane of the spool: an ordered queue of frames on disk, from scrape to the gateway's answer.

`append` returns when the frame is on disk and synced: from then on it survives `kill -9` and a power cut.
Frames come out in the order in which they went in, and are deleted, segment by segment, once acknowledged.
A boot has an epoch, greater than all before; sequences count from 1 in it, without a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from collector.errors import SpoolFull, SpoolLocked, SpoolUnavailable
from collector.spool.files import load_checked, save_checked, sync_folder
from collector.spool.frame import PREFIX, Frame, encode_frame
from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.spool.options import Draft, LaneOptions, Segment
from collector.spool.reader import SegmentReader
from collector.spool.segment import Damage, SegmentName, list_segments, scan
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("spool")


class LaneSpool:
    """One lane. Open it in one process only; `open` first, `close` last."""

    def __init__(self, folder: Path, options: LaneOptions, clock: Clock) -> None:
        self.folder = folder
        self.options = options
        self.gaps = GapRecords(folder)
        self.segments: OrderedDict[SegmentName, Segment] = OrderedDict()
        self.epoch = 0
        self.acknowledged: tuple[int, int] = (0, 0)
        self.dropped_frames = 0
        self.arrived = asyncio.Event()
        self.space = asyncio.Event()
        self.empty = asyncio.Event()
        self._clock = clock
        self._sequence = 0
        self._number = 0
        self._lock: int | None = None
        self._file: int | None = None
        self._active: SegmentName | None = None
        self._pending: list[tuple[Draft, asyncio.Future[int]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self.reader = SegmentReader(self)

    # -- life ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the lane and begin a new epoch. Blocking. Raises SpoolLocked, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._take_lock()
        cursor = load_checked(self.folder / "cursor.json") or {}
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.acknowledged = (int(cursor["epoch"]), int(cursor["sequence"]))
        for name in list_segments(self.folder):
            self.segments[name] = Segment((self.folder / str(name)).stat().st_size)
        self._begin_epoch()
        self.gaps.reserve()

    def _begin_epoch(self) -> None:
        path = self.folder / "epoch.json"
        recorded = (load_checked(path) or {}).get("epoch", 0)
        previous = max(
            recorded if isinstance(recorded, int) else 0,
            self.acknowledged[0],
            max((name.epoch for name in self.segments), default=0),
        )
        self.epoch = max(previous + 1, self._clock.now_ms())
        save_checked(path, {"epoch": self.epoch})

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
        if self._flusher is not None:
            await asyncio.gather(self._flusher, return_exceptions=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- in --------------------------------------------------------------------------------------------------

    async def append(self, draft: Draft) -> int:
        """Add a frame; returns its sequence once it is synced. Order: as called.

        Raises SpoolFull (nothing was written, wait for `space`), SpoolUnavailable (a gap was recorded).
        """
        if not self.options.drop_oldest and self.bytes + self._size(draft) > self.options.quota:
            self.space.clear()
            raise SpoolFull(f"{self.folder} holds {self.bytes} bytes of its {self.options.quota}")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending.append((draft, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name=f"spool.{self.options.lane}")
        return await asyncio.shield(done)

    async def _flush(self) -> None:
        while self._pending:
            batch, self._pending = self._pending, []
            try:
                first = await asyncio.to_thread(self._write, [draft for draft, _ in batch])
            except (OSError, ValueError) as error:
                await asyncio.to_thread(self._lost, batch, error)
                for _, done in batch:
                    done.set_exception(SpoolUnavailable(f"{self.folder} did not take a frame: {error}"))
                    done.exception()  # an appender that was cancelled does not look
                continue
            for number, (_, done) in enumerate(batch, first):
                done.set_result(number)
            self.empty.clear()
            self.arrived.set()

    def _write(self, drafts: list[Draft]) -> int:
        """Write and sync all, or nothing of it counts. Returns the first sequence. Raises OSError."""
        self._make_room(sum(self._size(draft) for draft in drafts))
        name = self._segment_for_writing()
        first = self._sequence + 1
        encoded = b"".join(
            encode_frame(self._numbered(number, draft), name.salt) for number, draft in enumerate(drafts, first)
        )
        segment = self.segments[name]
        assert self._file is not None
        try:
            self._write_at(encoded, segment.end)
            crash_point("spool.written")
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, segment.end)
            raise
        crash_point("spool.synced")
        self._sequence += len(drafts)
        segment.last = self._sequence
        segment.end += len(encoded)
        return first

    def _numbered(self, sequence: int, draft: Draft) -> Frame:
        through = draft.complete_through_ms
        return Frame(
            self.epoch, sequence, self.options.lane, through, draft.samples, draft.meta, draft.payload
        )  # fmt: skip

    def _write_at(self, encoded: bytes, offset: int) -> None:
        assert self._file is not None
        view = memoryview(encoded)
        half = len(view) // 2
        written = os.pwrite(self._file, view[:half], offset)
        crash_point("spool.half_written")
        while written < len(view):
            written += os.pwrite(self._file, view[written:], offset + written)

    def _segment_for_writing(self) -> SegmentName:
        active = self.segments.get(self._active) if self._active is not None else None
        if self._active is not None and active is not None and active.end < self.options.segment:
            return self._active
        if self._file is not None:
            os.close(self._file)
            self._file = None
        name = SegmentName.new(self.epoch, self._number + 1)
        self._file = os.open(self.folder / str(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        sync_folder(self.folder)
        self._number += 1
        self.segments[name] = Segment(0)
        self._active = name
        return name

    @staticmethod
    def _size(draft: Draft) -> int:
        return len(draft.payload) + len(draft.meta) + PREFIX.size + 64

    def _make_room(self, wanted: int) -> None:
        while self.segments and self.bytes + wanted > self.options.quota:
            name = next(iter(self.segments))
            if name == self._active and self.segments[name].end == 0:
                return
            self._drop(name)

    def _drop(self, name: SegmentName) -> None:
        segment = self.segments[name]
        path = self.folder / str(name)
        positions, samples = [], 0
        for found in scan(path, name, segment.end):
            if isinstance(found, Frame) and found.position > self.acknowledged:
                positions.append(found.sequence)
                samples += found.samples
        if positions:
            gap = Gap(GapReason.QUOTA, self._clock.now_ms(), name.epoch, positions[0], positions[-1], samples)
            self.gaps.record(gap)
            self.dropped_frames += len(positions)
            _log.warning("frames_dropped", reason="quota", frames=len(positions), samples=samples)
        self.forget(name)

    def _lost(self, batch: list[tuple[Draft, asyncio.Future[int]]], error: Exception) -> None:
        samples = sum(draft.samples for draft, _ in batch)
        self.gaps.record(Gap(GapReason.DISK, self._clock.now_ms(), samples=samples, detail=str(error)))
        _log.error("spool_write_failed", folder=str(self.folder), samples=samples, error=str(error))

    # -- out -------------------------------------------------------------------------------------------------

    async def next_frame(self) -> Frame:
        """The oldest frame not yet returned, in order; waits for one."""
        while True:
            self.arrived.clear()
            frame = await asyncio.to_thread(self.reader.read)
            if frame is not None:
                return frame
            if not self.arrived.is_set():
                self.empty.set()
            await self.arrived.wait()

    async def acknowledge(self, frame: Frame) -> None:
        """The gateway has this frame, and all before it: they will not be sent again. Durable when it returns."""
        await asyncio.to_thread(self._acknowledge, frame)
        self.space.set()

    async def drained(self) -> None:
        """Until whoever takes frames has asked for one and there was none: all before it are settled."""
        await self.empty.wait()

    def _acknowledge(self, frame: Frame) -> None:
        self.acknowledged = max(self.acknowledged, frame.position)
        epoch, sequence = self.acknowledged
        save_checked(self.folder / "cursor.json", {"epoch": epoch, "sequence": sequence})
        crash_point("spool.acknowledged")
        for name in list(self.segments):
            if not self._finished(name):
                break
            self.forget(name)

    def _finished(self, name: SegmentName) -> bool:
        """True when every frame of the segment is acknowledged."""
        epoch, sequence = self.acknowledged
        if name.epoch != epoch:
            return name.epoch < epoch
        last = self.segments[name].last
        if last is not None:
            return last <= sequence and (name != self._active or self.segments[name].end >= self.options.segment)
        return self.reader.is_past(name)

    def forget(self, name: SegmentName) -> None:
        """Delete a segment."""
        self.segments.pop(name, None)
        (self.folder / str(name)).unlink(missing_ok=True)
        crash_point("spool.segment_deleted")

    def damaged(self, name: SegmentName, damage: Damage, before: int, after: int | None) -> None:
        """The reader met bytes that are no frame, between sequences `before` and `after`."""
        if damage.torn:
            _log.warning("torn_tail", segment=str(name), bytes=damage.length)
            return
        gap = Gap(GapReason.DAMAGE, self._clock.now_ms(), name.epoch, before + 1, detail=damage.reason)
        self.gaps.record(replace(gap, last=None if after is None else after - 1))
        _log.error("segment_damaged", segment=str(name), offset=damage.offset, bytes=damage.length)

    # -- what is seen from outside ---------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        """Bytes on disk, acknowledged ones of unfinished segments included."""
        return sum(segment.end for segment in list(self.segments.values()))

    @property
    def last_sequence(self) -> int:
        """The sequence of the newest synced frame of this boot."""
        return self._sequence
