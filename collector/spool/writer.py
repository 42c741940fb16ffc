"""Appends to the segment of the current generation; a generation is a group of our own protocol."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from collector.spool.bodies import Join, PendingBody
from collector.spool.files import sync_folder
from collector.spool.frame import Frame, PayloadKind, encode_frame
from collector.spool.options import LaneOptions, Segment
from collector.spool.segment import SegmentName
from collector.spool.shelf import Shelf
from kernel.clock import Clock
from kernel.crashpoints import crash_point


class SegmentWriter:
    """Blocking, but for `generation`. One thread writes at a time."""

    def __init__(self, folder: Path, options: LaneOptions, clock: Clock, shelf: Shelf, join: Join) -> None:
        self.epoch = 0
        self.sequence = 0
        self._folder = folder
        self._options = options
        self._clock = clock
        self._shelf = shelf
        self._join = join
        self._generation = 1
        self._file: int | None = None

    def generation(self) -> int:
        """The group that a block encoded now must belong to; a new one when the segment is full or old."""
        name = self._shelf.active
        segment = self._shelf.segments.get(name) if name is not None else None
        if name is None or segment is None or name.number != self._generation:
            return self._generation  # nothing is written in it yet
        is_old = self._clock.monotonic() - segment.begun >= self._options.segment_age
        if segment.end >= self._options.segment or is_old:
            self._generation += 1
        return self._generation

    def roll(self) -> int:
        """Begin a new generation now, unless nothing was written in this one."""
        name = self._shelf.active
        if name is not None and name.number == self._generation:
            self._generation += 1
        return self._generation

    def write(self, bodies: Sequence[PendingBody], generation: int) -> list[int]:
        """Write and sync all, or nothing of it counts. Returns the sequences. Raises OSError, ValueError."""
        now_ms = self._clock.now_ms()
        frames = [
            self._frame(number, body, generation, now_ms) for number, body in enumerate(bodies, self.sequence + 1)
        ]
        self._shelf.make_room(sum(frame.stored_bytes for frame in frames))
        name = self._segment(generation)
        encoded = b"".join(encode_frame(frame, name.salt) for frame in frames)
        segment = self._shelf.segments[name]
        assert self._file is not None
        try:
            self._write_at(self._file, encoded, segment.end)
            crash_point("spool.written")
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, segment.end)
            raise
        crash_point("spool.synced")
        self.sequence += len(frames)
        segment.last = self.sequence
        segment.end += len(encoded)
        return [frame.sequence for frame in frames]

    def close(self) -> None:
        """Let the file go. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _frame(self, sequence: int, body: PendingBody, generation: int, now_ms: int) -> Frame:
        payload = body.payload if body.kind is PayloadKind.RW2 else self._join(generation, body.blocks)
        return Frame(
            self.epoch,
            sequence,
            self._options.lane,
            body.complete_through_ms,
            body.samples,
            body.meta(),
            payload,
            body.kind,
            now_ms,
            generation,
        )

    @staticmethod
    def _write_at(file: int, encoded: bytes, offset: int) -> None:
        view = memoryview(encoded)
        half = len(view) // 2
        written = os.pwrite(file, view[:half], offset)
        crash_point("spool.half_written")
        while written < len(view):
            written += os.pwrite(file, view[written:], offset + written)

    def _segment(self, generation: int) -> SegmentName:
        active = self._shelf.active
        if active is not None and active.number == generation and active in self._shelf.segments:
            return active
        self.close()
        name = SegmentName.new(self.epoch, generation, self.sequence + 1)
        self._file = os.open(self._folder / str(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        sync_folder(self._folder)
        with self._shelf.lock:
            self._shelf.segments[name] = Segment(0, begun_ms=self._clock.now_ms(), begun=self._clock.monotonic())
            self._shelf.active = name
        return name
