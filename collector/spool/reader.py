"""Reads a lane's frames in order, over damage: a wrong frame is never returned, an intact one never skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.spool.frame import BadFrame, Frame
from collector.spool.segment import Damage, SegmentName, next_valid, read_frame
from kernel.logs import logger

if TYPE_CHECKING:
    from collector.spool.lane import LaneSpool

_log = logger("spool")


class SegmentReader:
    """A place in the segments of a lane, in memory; after a start it is before all frames not acknowledged."""

    def __init__(self, lane: LaneSpool) -> None:
        self._lane = lane
        self._name: SegmentName | None = None
        self._offset = 0
        self._last: tuple[int, int] = (0, 0)

    def read(self) -> Frame | None:
        """The next frame that is not acknowledged; None: there is none yet. Blocking."""
        while (name := self._current()) is not None:
            frame = self._read_in(name)
            if frame is None:
                if not self._advance(name):
                    return None
            elif frame.position > max(self._last, self._lane.acknowledged):
                self._last = frame.position
                return frame
        return None

    def is_past(self, name: SegmentName) -> bool:
        """True when everything in the segment was read."""
        return self._name is not None and name < self._name

    def _current(self) -> SegmentName | None:
        names = list(self._lane.segments)
        if self._name not in self._lane.segments:
            later = [name for name in names if self._name is None or name > self._name]
            self._name, self._offset = (later[0] if later else None), 0
            if self._name is None and names:
                self._name = names[-1]
        return self._name

    def _advance(self, name: SegmentName) -> bool:
        later = [other for other in list(self._lane.segments) if other > name]
        if later:
            self._name, self._offset = later[0], 0
        return bool(later)

    def _read_in(self, name: SegmentName) -> Frame | None:
        segment = self._lane.segments.get(name)
        path = self._lane.folder / str(name)
        end = 0 if segment is None else segment.end
        if self._offset >= end:
            return None
        try:
            frame, self._offset = read_frame(path, name, self._offset, end)
        except OSError as error:
            self._unreadable(name, end, error)
            return None
        except BadFrame as bad:
            return self._over_damage(name, end, bad)
        return frame

    def _over_damage(self, name: SegmentName, end: int, bad: BadFrame) -> Frame | None:
        found = next_valid(self._lane.folder / str(name), name, self._offset, end)
        until = end if found is None else found[1]
        damage = Damage(self._offset, until - self._offset, str(bad), bad.torn and found is None)
        before = self._last[1] if self._last[0] == name.epoch else 0
        if (name.epoch, before) < self._lane.acknowledged and self._lane.acknowledged[0] == name.epoch:
            before = max(before, self._lane.acknowledged[1])
        after = None if found is None else found[0].sequence
        if after is None or after > before + 1:
            self._lane.damaged(name, damage, before, after)
        self._offset = end if found is None else found[2]
        return None if found is None else found[0]

    def _unreadable(self, name: SegmentName, end: int, error: OSError) -> None:
        if name not in self._lane.segments:
            return  # it made room for newer frames meanwhile
        self._lane.damaged(name, Damage(self._offset, end - self._offset, str(error), torn=False), 0, None)
        self._offset = end
