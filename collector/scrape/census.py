"""What became of the keys of a target, by their numbers, and how many of what: counted by what comes and goes.

`make_plan` counts all rows of a body. As long as nothing about them is unusual, this gives the same plan with work
for the keys that came and went, beside few passes over the rows' numbers; `test_census` compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from collector.exposition import Numbered
from collector.exposition.numbering import Numbers
from collector.exposition.readers import lane_rows
from collector.native import LaneRows
from collector.scrape.index import NO_SLOTS, Slots
from collector.scrape.plan import DENIED, DROPPED, HELD, NO_ROWS, TOO_LONG, Codes, LanePlan, Plan, RowIndex
from collector.scrape.stream import Stream
from collector.wire.distinct import distinct
from collector.wire.frames import grown

_STAYS = (DROPPED, DENIED, TOO_LONG)


class _LaneCensus:
    """The slots of a lane that keys have."""

    def __init__(self, stream: Stream, lane_rows: LaneRows | None) -> None:
        self._stream = stream
        self._lane_rows = lane_rows
        self.keys = 0
        self.shared = 0  # slots that several keys have
        self._keys_of = np.zeros(0, np.int32)  # by slot
        self._by_family = np.zeros(0, np.int64)  # slots that a key has

    def count(self, slots: npt.NDArray[np.int32], sign: int) -> None:
        """Keys that have these slots come (1) or go (-1)."""
        if not len(slots):
            return
        self.keys += sign * len(slots)
        self._keys_of = grown(self._keys_of, self._stream.capacity)
        different = distinct(slots)
        before = self._keys_of[different]
        np.add.at(self._keys_of, slots, np.int32(sign))
        after = self._keys_of[different]
        self.shared += int(np.count_nonzero(after > 1)) - int(np.count_nonzero(before > 1))
        changed = different[(before > 0) != (after > 0)]
        numbers = np.bincount(self._stream.families[changed])
        self._by_family = grown(self._by_family, len(numbers))
        self._by_family[: len(numbers)] += sign * numbers

    def plan(self, codes: Codes, numbers: Numbers, lane: int) -> LanePlan:
        """For rows of these numbers, which all differ, as do their slots."""
        rows, slots = self._rows(codes, numbers, lane) if self.keys else (NO_ROWS, NO_SLOTS)
        present = np.zeros(self._stream.capacity, np.bool_)
        known = self._keys_of[: len(present)]
        np.greater(known, 0, out=present[: len(known)])
        families = np.flatnonzero(self._by_family)
        counts = dict(zip(families.tolist(), self._by_family[families].tolist(), strict=True))
        return LanePlan(rows, slots, NO_ROWS, NO_SLOTS, present, present, counts)

    def _rows(self, codes: Codes, numbers: Numbers, lane: int) -> tuple[RowIndex | None, Slots]:
        if self._lane_rows is not None:
            rows, slots = self._lane_rows(codes, numbers, lane, self.keys)
            return None if rows is None else np.frombuffer(rows, np.int64), np.frombuffer(slots, np.int32)
        codes = codes[numbers]
        if self.keys == len(codes):
            return None, codes >> 1
        found = np.flatnonzero((codes & 1 == lane) & (codes >= 0))
        return found, codes[found] >> 1


class Census:
    """Of the keys of the last kept reading. `codes` is by number of a key; those of `numbered.born` may be set
    before `follow`, as no other reading has them."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._lane_rows = lane_rows()
        self.reset()

    def reset(self) -> None:
        """There are no keys."""
        self.codes: Codes = np.empty(0, np.int32)
        self._clear()

    def _clear(self) -> None:
        self._keys = 0
        self._stays = dict.fromkeys(_STAYS, 0)
        self._held = 0
        self._lanes = [_LaneCensus(stream, self._lane_rows) for stream in self._streams]

    def reserve(self, limit: int) -> Codes:
        """The codes, with room for numbers below `limit`."""
        self.codes = grown(self.codes, limit)
        return self.codes

    @property
    def leaving(self) -> int:
        """Keys whose series have slots."""
        return sum(lane.keys for lane in self._lanes)

    @property
    def has_held(self) -> bool:
        return self._held > 0

    def leaving_among(self, numbers: npt.NDArray[np.int32]) -> int:
        """How many of these keys have series with slots."""
        return int(np.count_nonzero(self.codes[numbers] >= 0))

    def follow(self, numbered: Numbered) -> None:
        """The keys are those of this reading now."""
        self._count(self.codes[numbered.gone], -1)
        self.codes[numbered.gone] = DROPPED
        self._count(self.codes[numbered.born], 1)

    def recount(self, numbered: Numbered) -> None:
        """The same, after codes of other keys than the born ones were changed."""
        self._clear()
        self._count(self.codes[distinct(numbered.rows)], 1)

    def _count(self, codes: Codes, sign: int) -> None:
        self._keys += sign * len(codes)
        for code in _STAYS:
            self._stays[code] += sign * int(np.count_nonzero(codes == code))
        self._held += sign * int(np.count_nonzero(codes <= HELD))
        for number, lane in enumerate(self._lanes):
            lane.count(codes[(codes & 1 == number) & (codes >= 0)] >> 1, sign)

    def plan(self, numbered: Numbered) -> Plan | None:
        """The plan of the reading that was followed last; None: look at each row.

        That is so when two rows are of one key or series, when series are held, or collide.
        """
        rows = len(numbered.rows)
        if rows != self._keys or self._held or any(lane.shared for lane in self._lanes):
            return None
        if any(stream.collided.any() for stream in self._streams):
            return None
        return Plan(
            [lane.plan(self.codes, numbered.rows, number) for number, lane in enumerate(self._lanes)],
            rows,
            denied=self._stays[DENIED],
            too_long=self._stays[TOO_LONG],
            relabelled=rows - self._stays[DROPPED],
        )
