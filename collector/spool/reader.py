"""Reads a lane's frames in order, over damage: a wrong frame is never returned, an intact one never skipped."""

from __future__ import annotations

from collections.abc import Callable

from collector.spool.frame import BadFrame, Frame
from collector.spool.options import Segment
from collector.spool.segment import Damage, SegmentName, next_valid, read_frame
from collector.spool.settled import Settled
from collector.spool.shelf import Shelf

Damaged = Callable[[SegmentName, Damage, int | None, int | None], None]


class SegmentReader:
    """Reads the oldest segment with something left. Where reading is stands with the segment, so that the fresh and
    the backlog's reader can share a lane: each is given the groups it may read.
    """

    def __init__(self, shelf: Shelf, settled: Settled, damaged: Damaged) -> None:
        self._shelf = shelf
        self._settled = settled
        self._damaged = damaged

    def read(self, at_least: tuple[int, int] = (0, 0), below: tuple[int, int] | None = None) -> Frame | None:
        """The next frame that is not settled, of groups (epoch, number) in [at_least, below). Blocking."""
        while (name := self._shelf.next_unread(at_least, below)) is not None:
            found = self._read_in(name)
            with self._shelf.lock:  # a segment that is read and in which nothing waits is put away by any thread
                is_new = found is not None and self._take(name, *found)
                self._check_end(name)
            if found is not None and is_new:
                return found[0]
        return None

    def _check_end(self, name: SegmentName) -> None:
        """After a segment that is written no more comes the next one; if numbers lie between, a file is gone."""
        segment = self._shelf.segments.get(name)
        if segment is None or name == self._shelf.active or segment.offset < segment.end:
            return
        last = self._shelf.last_sequence(name)
        if self._settled.is_known and last is not None and last > segment.read > 0:
            self._tell(name, segment, Damage(segment.end, 0, "frames are missing", torn=False), last + 1)

    def _take(self, name: SegmentName, frame: Frame, following: int) -> bool:
        """Whether it is to be sent: not settled before, and not there twice, in a file copied under another name.

        Reading goes past it in the step in which it begins to wait.
        """
        segment = self._shelf.segments.get(name)
        if segment is None:
            return False  # it made room for newer frames meanwhile
        seen = frame.sequence <= segment.read or self._shelf.is_waiting(*frame.position)
        is_new = not seen and frame.position not in self._settled
        if is_new:
            segment.waiting[frame.sequence] = frame.appended_ms
        else:
            segment.settled_bytes += frame.stored_bytes
        segment.read = max(segment.read, frame.sequence)
        segment.offset = following
        return is_new

    def _read_in(self, name: SegmentName) -> tuple[Frame, int] | None:
        """The frame where reading is, or after damage, and where the next one begins."""
        segment = self._shelf.segments.get(name)
        if segment is None:
            return None  # it made room for newer frames meanwhile
        end = segment.end
        try:
            frame, following = read_frame(self._shelf.folder / str(name), name, segment.offset, end)
        except OSError as error:
            if name in self._shelf.segments:
                self._skip(name, segment, end, Damage(segment.offset, end - segment.offset, str(error), torn=False))
            return None
        except BadFrame as bad:
            return self._over_damage(name, segment, end, bad)
        if (segment.read and frame.sequence > segment.read + 1) or (
            not segment.read and frame.sequence > name.first > 0
        ):
            self._tell(name, segment, Damage(segment.offset, 0, "frames are missing", torn=False), frame.sequence)
        return frame, following

    def _over_damage(
        self, name: SegmentName, segment: Segment, end: int, bad: BadFrame
    ) -> tuple[Frame, int] | None:
        found = next_valid(self._shelf.folder / str(name), name, segment.offset, end)
        until = end if found is None else found[1]
        damage = Damage(segment.offset, until - segment.offset, str(bad), bad.torn and found is None)
        if found is None:
            self._skip(name, segment, end, damage)
            return None
        self._tell(name, segment, damage, found[0].sequence)
        return found[0], found[2]

    def _skip(self, name: SegmentName, segment: Segment, end: int, damage: Damage) -> None:
        last = self._shelf.last_sequence(name)
        self._tell(name, segment, damage, None if last is None else last + 1)
        segment.settled_bytes = segment.offset = end

    def _tell(self, name: SegmentName, segment: Segment, damage: Damage, after: int | None) -> None:
        before = segment.read or self._shelf.before(name)
        if before is None or after is None or after > before + 1:
            self._damaged(name, damage, before, after)
