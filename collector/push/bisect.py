"""A push that was refused is cut until the smallest bad part is found; that part is put aside, the rest arrives.

The plan is on disk before a part is sent. Parts have growing numbers, and the same number always means the same
rows: so a part that is sent again after a crash is recognised by the lake, and the whole is never sent again (it
would come back under a number lower than its own parts, and be taken for a duplicate).
"""

from __future__ import annotations

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
    """The plan of the push being bisected, if there is one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, frame: Frame) -> Plan | None:
        """The plan of this frame; None when there is none. Blocking."""
        fields: dict[str, Any] = load_checked(self._path) or {}
        if (fields.get("epoch"), fields.get("sequence")) != frame.position:
            return None
        ranges = tuple((int(start), int(stop)) for start, stop in fields["ranges"])
        return Plan(frame.epoch, frame.sequence, int(fields["part"]), ranges)

    def save(self, plan: Plan) -> None:
        """Durable when it returns. Raises OSError."""
        fields = {"epoch": plan.epoch, "sequence": plan.sequence, "part": plan.part, "ranges": plan.ranges}
        save_checked(self._path, fields)

    def remove(self) -> None:
        """The push is done."""
        self._path.unlink(missing_ok=True)
