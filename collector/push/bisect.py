"""A push that was refused is cut until the smallest bad part is found; that part is put aside, the rest arrives.

The plan is on disk before a part is sent. Parts have growing numbers, and the same number always means the same
rows: so a part that is sent again after a crash is recognised by the lake, and the whole is never sent again (it
would come back under a number lower than its own parts, and be taken for a duplicate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.spool.files import load_checked, save_checked
from collector.spool.frame import Frame

MAX_PARTS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """Ranges of series [start, stop) still to send; `part` is the number of the first of them."""

    epoch: int
    sequence: int
    part: int
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def begin(cls, frame: Frame, series: int) -> Plan:
        """The whole was refused: its halves come next."""
        return cls(frame.epoch, frame.sequence, 1, _halves(0, series))

    @classmethod
    def cut(cls, frame: Frame, samples: Sequence[int], most: int) -> Plan:
        """Parts of at most `most` samples (a series is never cut), for a receiver that does not take the whole.

        `samples[i]`: of series i.
        """
        ranges, start, held = [], 0, 0
        for index, count in enumerate(samples):
            if held and held + count > most:
                ranges.append((start, index))
                start, held = index, 0
            held += count
        if held:
            ranges.append((start, len(samples)))
        return cls(frame.epoch, frame.sequence, 1, tuple(ranges))

    @property
    def current(self) -> tuple[int, int]:
        return self.ranges[0]

    @property
    def is_smallest(self) -> bool:
        """One series; or a range of them, once so many parts were sent that a gateway is refusing everything."""
        start, stop = self.current
        return stop - start <= 1 or self.part >= MAX_PARTS

    def settled(self) -> Plan:
        """The current part was accepted, or put aside."""
        return Plan(self.epoch, self.sequence, self.part + 1, self.ranges[1:])

    def split(self) -> Plan:
        """The current part was refused and has more than one series."""
        return Plan(self.epoch, self.sequence, self.part + 1, _halves(*self.current) + self.ranges[1:])


def _halves(start: int, stop: int) -> tuple[tuple[int, int], ...]:
    if stop - start <= 1:
        return ((start, stop),) if stop > start else ()
    middle = (start + stop) // 2
    return (start, middle), (middle, stop)


class PlanFile:
    """The plans of pushes being bisected: one file each, as fresh and backlog may be cut at the same time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, frame: Frame) -> Plan | None:
        """The plan of this frame; None when there is none. Blocking."""
        for path in (self._path(frame.epoch, frame.sequence), self._folder / "bisect.json"):  # the older name
            fields: dict[str, Any] = load_checked(path) or {}
            if (fields.get("epoch"), fields.get("sequence")) == frame.position:
                ranges = tuple((int(start), int(stop)) for start, stop in fields["ranges"])
                return Plan(frame.epoch, frame.sequence, int(fields["part"]), ranges)
        return None

    def save(self, plan: Plan) -> None:
        """Durable when it returns. Raises OSError."""
        fields = {"epoch": plan.epoch, "sequence": plan.sequence, "part": plan.part, "ranges": plan.ranges}
        save_checked(self._path(plan.epoch, plan.sequence), fields)

    def remove(self, frame: Frame) -> None:
        """The push is done."""
        self._path(frame.epoch, frame.sequence).unlink(missing_ok=True)

    def _path(self, epoch: int, sequence: int) -> Path:
        return self._folder / f"bisect-{epoch}-{sequence}.json"
