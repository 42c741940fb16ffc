"""What is lost on disk, written down: damage that the reader met, files that are gone. Each number once."""

from __future__ import annotations

import contextlib

from collector.spool.frame import Frame
from collector.spool.gaps import Gap, GapReason, GapRecords
from collector.spool.segment import Damage, SegmentName
from collector.spool.settled import Settled
from collector.spool.shelf import Shelf
from collector.spool.writer import SegmentWriter
from kernel.clock import Clock
from kernel.logs import logger

_log = logger("spool")


class Losses:
    """Blocking."""

    def __init__(
        self, shelf: Shelf, settled: Settled, gaps: GapRecords, writer: SegmentWriter, clock: Clock
    ) -> None:
        self._shelf = shelf
        self._settled = settled
        self._gaps = gaps
        self._writer = writer
        self._clock = clock

    def find_lost_segments(self) -> None:
        """Numbers before the first segment of an epoch that nobody settled: a file is gone."""
        begun: set[int] = set()
        for name in self._shelf.names() if self._settled.is_known else ():
            numbers = self._settled.epochs.get(name.epoch)
            is_whole = numbers is not None and not numbers.missing(1, name.first - 1)
            if name.epoch not in begun and name.first > 1 and name.epoch >= self._settled.floor and not is_whole:
                self.damaged(name, Damage(0, 0, "a segment is gone", torn=False), 0, name.first)
            begun.add(name.epoch)

    def damaged(self, name: SegmentName, damage: Damage, before: int | None, after: int | None) -> None:
        """The reader met bytes that are no frame, between sequences `before` and `after`."""
        _log.error("segment_damaged", segment=str(name), offset=damage.offset, bytes=damage.length)
        first = None if before is None else before + 1
        if name.group == (self._writer.epoch, self._writer.generation()):
            self._writer.roll()  # later blocks may build on what is lost
        now_ms = self._clock.now_ms()
        with self._shelf.lock:
            numbers = self._settled.epochs.get(name.epoch)
            if first is None:
                unknown = Gap(GapReason.DAMAGE, now_ms, name.epoch, None, after and after - 1, detail=damage.reason)
                self._gaps.record(unknown)
                return
            if after is None:
                self._cut(name.epoch, first, damage.reason)
            else:
                for low, high in numbers.missing(first, after - 1) if numbers else [(first, after - 1)]:
                    self._gaps.record(Gap(GapReason.DAMAGE, now_ms, name.epoch, low, high, detail=damage.reason))
                    self._settled.add(name.epoch, low, high)
            with contextlib.suppress(OSError):  # then it is recorded again after a restart
                self._settled.save()

    def undecodable(self, frame: Frame, detail: str) -> None:
        """Nobody can read a frame any more. Nothing, if its segment made room meanwhile: that is recorded."""
        with self._shelf.lock:
            if frame.position not in self._settled:
                now_ms, number = self._clock.now_ms(), frame.sequence
                gap = Gap(GapReason.DAMAGE, now_ms, frame.epoch, number, number, frame.samples, detail)
                self._gaps.record(gap)
                self._settled.add(*frame.position)

    def _cut(self, epoch: int, first: int, reason: str) -> None:
        """The end of an epoch is damaged: how many numbers it held is not known. Recorded once."""
        if self._settled.cut.get(epoch, first + 1) <= first:
            return
        self._gaps.record(Gap(GapReason.DAMAGE, self._clock.now_ms(), epoch, first, None, detail=reason))
        self._settled.cut[epoch] = first
        self._settled.add(epoch, first)
