"""The segments of a lane: which there are, where reading is in each, and which must go."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path

from collector.spool.files import sync_folder
from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.spool.options import LaneOptions, Segment
from collector.spool.segment import SegmentName, list_segments, scan
from collector.spool.settled import Settled
from kernel.clock import Clock
from kernel.crashpoints import crash_point
from kernel.logs import logger

_log = logger("spool")


class Shelf:
    """Blocking throughout; `lock` is held while what is known of the segments changes."""

    def __init__(
        self, folder: Path, options: LaneOptions, clock: Clock, gaps: GapRecords, settled: Settled
    ) -> None:
        self.folder = folder
        self.archive = folder / "archive"
        self.removed = GapRecords(self.archive, "removed.jsonl")
        self.segments: OrderedDict[SegmentName, Segment] = OrderedDict()
        self.active: SegmentName | None = None
        self.dropped_frames = 0
        self.lock = threading.RLock()
        self._options = options
        self._clock = clock
        self._gaps = gaps
        self._settled = settled

    def load(self) -> None:
        """Find what is on disk. Raises OSError."""
        for name in list_segments(self.folder):
            self.segments[name] = Segment((self.folder / str(name)).stat().st_size)

    def names(self) -> list[SegmentName]:
        """In order."""
        with self.lock:
            return list(self.segments)

    def next_unread(self, at_least: tuple[int, int], below: tuple[int, int] | None = None) -> SegmentName | None:
        """The oldest segment of groups (epoch, number) in [at_least, below) with something left to read."""
        with self.lock:
            for name, segment in self.segments.items():
                if (
                    name.group >= at_least
                    and (below is None or name.group < below)
                    and segment.offset < segment.end
                ):
                    return name
        return None

    def oldest_modified(self) -> float | None:
        """When the oldest segment was last written, in seconds since 1970; None without one."""
        name = next(iter(self.names()), None)
        with contextlib.suppress(OSError):
            return (self.folder / str(name)).stat().st_mtime if name else None
        return None

    def before(self, name: SegmentName) -> int | None:
        """The last sequence before this segment's first; None: not known."""
        if name.first:
            return name.first - 1
        with self.lock:
            earlier = [other for other in self.segments if other.epoch == name.epoch and other < name]
            return self.segments[earlier[-1]].last if earlier else None

    def last_sequence(self, name: SegmentName) -> int | None:
        """Of a segment, by what was written or read, or by where the next one of the epoch begins."""
        segment = self.segments.get(name)
        if segment is not None and segment.last is not None:
            return segment.last
        later = next((other for other in self.names() if other > name and other.epoch == name.epoch), None)
        return later.first - 1 if later is not None and later.first else None

    def is_waiting(self, epoch: int, sequence: int) -> bool:
        """Whether the frame was handed out and is not settled."""
        with self.lock:
            return any(name.epoch == epoch and sequence in one.waiting for name, one in self.segments.items())

    def make_room(self, wanted: int) -> None:
        """Drop the oldest segments for `wanted` bytes, and those past their age. Raises OSError: there is none."""
        self._drop_old()
        while self.bytes + wanted > self._options.quota:
            name = next((name for name in self.names() if name != self.active), None)
            if name is None:
                raise OSError(f"{wanted} bytes more are over the quota of {self._options.quota}")
            self.drop(name, GapReason.QUOTA)

    def _drop_old(self) -> None:
        bound = self._clock.now_ms() / 1000 - self._options.max_age
        if not self._options.max_age:
            return
        for name in self.names():
            path = self.folder / str(name)
            if name == self.active or not path.exists() or path.stat().st_mtime >= bound:
                return  # newer ones follow
            self.drop(name, GapReason.QUOTA, "older than max_age")

    def drop(self, name: SegmentName, reason: GapReason, detail: str = "") -> int:
        """Give up what of a segment is not settled, with a gap record; returns how many frames that were."""
        segment = self.segments.get(name)
        if segment is None:
            return 0  # all of it was settled meanwhile, and it was put away
        first, last, samples = self._extent(name, segment)
        with self.lock:  # so that a frame that is under way is given up once, and not what is settled meanwhile
            lost = self._missing(name.epoch, first, last)
            for run in lost:
                share = samples if run == lost[0] else 0
                self._gaps.record(Gap(reason, self._clock.now_ms(), name.epoch, *run, share, detail))
                self._settled.add(name.epoch, *run)
        if not lost and self.last_sequence(name) is None and name.epoch >= self._settled.floor:
            self._gaps.record(
                Gap(reason, self._clock.now_ms(), name.epoch, name.first or None, detail="unreadable")
            )
        frames = sum(last - first + 1 for first, last in lost)
        if frames:
            self.dropped_frames += frames
            _log.warning("frames_dropped", reason=reason.value, frames=frames, samples=samples, detail=detail)
            with self.lock:
                self._settled.save()
        self.forget(name)
        return frames

    def _extent(self, name: SegmentName, segment: Segment) -> tuple[int, int, int]:
        """First and last sequence of a segment, as far as is known, and the samples that are not settled."""
        numbers, samples = [], 0
        try:
            for found in scan(self.folder / str(name), name, segment.end):
                if isinstance(found, Frame):
                    numbers.append(found.sequence)
                    samples += 0 if found.position in self._settled else found.samples
        except OSError as error:
            _log.error("segment_unreadable", segment=str(name), error=str(error))
        first = min(numbers, default=name.first or 0)
        last = self.last_sequence(name) or max(numbers, default=0)
        return min(first, name.first) if name.first else first, last, samples

    def _missing(self, epoch: int, first: int, last: int) -> list[tuple[int, int]]:
        numbers = self._settled.epochs.get(epoch)
        if not first or last < first or epoch < self._settled.floor:
            return []
        return numbers.missing(first, last) if numbers else [(first, last)]

    def finish(self) -> None:
        """Put away every segment of which all frames are settled."""
        for name in self.names():
            with self.lock:
                segment = self.segments.get(name)
                if segment is None or name == self.active or not segment.is_done:
                    continue
            if self._options.keep:
                self._keep(name)
            else:
                self.forget(name)

    def _keep(self, name: SegmentName) -> None:
        self.archive.mkdir(exist_ok=True, mode=0o700)
        path = self.folder / str(name)
        if path.exists():
            path.replace(self.archive / str(name))
            sync_folder(self.archive)
            sync_folder(self.folder)
        with self.lock:
            self.segments.pop(name, None)
        crash_point("spool.segment_kept")
        self.trim_archive()

    def trim_archive(self, spare: int = 0) -> bool:
        """Remove kept segments past their time or over their bytes, and `spare` bytes more, each with a record.

        True if there was any.
        """
        kept = [(name, (self.archive / str(name)).stat()) for name in list_segments(self.archive)]
        limit = min(self._options.keep_bytes, sum(stat.st_size for _, stat in kept)) - spare
        total, bound, removed = sum(stat.st_size for _, stat in kept), self._clock.now_ms() / 1000, False
        for name, stat in kept:
            is_old = stat.st_mtime < bound - self._options.keep
            if not is_old and total <= limit:
                break
            self._remove_kept(name, "older than keep" if is_old else "over keep_bytes")
            total, removed = total - stat.st_size, True
        return removed

    def _remove_kept(self, name: SegmentName, why: str) -> None:
        path = self.archive / str(name)
        numbers = [found for found in scan(path, name, path.stat().st_size) if isinstance(found, Frame)]
        if numbers:
            first, last = numbers[0].sequence, numbers[-1].sequence
            samples = sum(frame.samples for frame in numbers)
            gap = Gap(GapReason.QUOTA, self._clock.now_ms(), name.epoch, first, last, samples, f"kept body: {why}")
            self.removed.record(gap)
        path.unlink(missing_ok=True)

    def forget(self, name: SegmentName) -> None:
        """Delete a segment."""
        with self.lock:
            self.segments.pop(name, None)
            if name == self.active:
                self.active = None
        (self.folder / str(name)).unlink(missing_ok=True)
        crash_point("spool.segment_deleted")

    def ends(self, known: Collection[int] = ()) -> Iterator[tuple[int, int]]:
        """(epoch, last sequence) of epochs on disk, kept ones included; reads one segment of each not `known`."""
        newest: dict[int, tuple[Path, SegmentName]] = {}
        for folder in (self.archive, self.folder):
            for name in list_segments(folder):
                so_far = newest.get(name.epoch)
                if name.epoch not in known and (so_far is None or name > so_far[1]):
                    newest[name.epoch] = folder / str(name), name
        for epoch, (path, name) in sorted(newest.items()):
            size = path.stat().st_size
            numbers = [one.sequence for one in scan(path, name, size) if isinstance(one, Frame)]
            yield epoch, max(numbers, default=max(0, name.first - 1))

    @property
    def bytes(self) -> int:
        """On disk, settled ones of unfinished segments included; kept ones are not."""
        with self.lock:
            return sum(segment.end for segment in self.segments.values())

    @property
    def pending_bytes(self) -> int:
        """On disk and not settled."""
        with self.lock:
            return sum(segment.pending_bytes for segment in self.segments.values())

    def oldest_ms(self) -> int | None:
        """When the oldest frame that is not settled was appended, as far as is known without reading; else None."""
        with self.lock:
            for segment in self.segments.values():
                if segment.waiting:
                    return min(segment.waiting.values())
                if segment.offset < segment.end and segment.begun_ms:
                    return segment.begun_ms
        return None
