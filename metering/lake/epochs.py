"""What the lake has of one epoch (one boot) of a collector's lane.

A number that was seen is known as such whatever came before or after it, so fresh pushes may go beside a backlog
and any order gives the same state. Two things are bounded: the intervals of an epoch, and pushes whose parts are
kept apart. What falls out at the low end can't be told from a repetition any more; then it counts as unsure, and
its rows are stored like a foreign sender's, which readers deduplicate by content. So a bound never costs a sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from metering.lake.intervals import Interval, Intervals, add, contains, count, holes, latest, merge_lowest, remove

MOST_INTERVALS = 64
MOST_CUT_PUSHES = 64


class Judgement(Enum):
    """What the horizon says of a push."""

    NEW = auto()
    REPEATED = auto()
    UNSURE = auto()  # too old to be told from a repetition: store it, deduplicated by content


@dataclass(frozen=True, slots=True)
class EpochState:
    """`refused` came and could not be stored; `closed_at` is the last number, once a later epoch has said so.

    `lost` numbers lay in holes up to `floor` that were given up for the bound. `cut` holds the parts of pushes
    above `cut_floor` that came in other parts than 0.
    """

    intervals: Intervals = ()
    refused: Intervals = ()
    closed_at: int | None = None
    lost: int = 0
    floor: int = 0
    cut: tuple[tuple[int, Intervals], ...] = ()
    cut_floor: int = 0

    @property
    def last(self) -> int:
        """The highest number known to exist."""
        return max(self.intervals[-1].last if self.intervals else 0, self.closed_at or 0)

    @property
    def missing(self) -> int:
        """Numbers that did not come, or came and could not be stored."""
        return self.last - count(self.intervals) + self.lost + count(self.refused)

    @property
    def is_settled(self) -> bool:
        """Closed, and nothing is under way."""
        return self.closed_at is not None and self.last == count(self.intervals)

    def judge(self, number: int, part: int) -> Judgement:
        """Whether that part of that push is new."""
        if not contains(self.intervals, number):
            return Judgement.NEW
        if contains(self.refused, number):
            return Judgement.NEW  # repaired by hand and appended again
        parts = dict(self.cut).get(number)
        if number <= self.floor or (parts is None and part and number <= self.cut_floor):
            return Judgement.UNSURE
        seen = contains(parts, part) if parts is not None else part == 0
        return Judgement.REPEATED if seen else Judgement.NEW

    def stored(self, number: int, part: int, through_ms: int | None, received_ms: int) -> EpochState:
        """After a part that was judged new."""
        cut = self._cut_with(number, part)
        over = len(cut) > MOST_CUT_PUSHES
        refused = remove(self.refused, number)
        split = len(refused) > MOST_INTERVALS  # it came out of the middle of what was given up
        came = self._came(Interval(number, number, through_ms, received_ms))
        return replace(
            came,
            refused=refused[split:],
            lost=came.lost + (count(refused[:1]) if split else 0),
            cut=cut[over:],
            cut_floor=max(self.cut_floor, cut[0][0] if over else 0),
        )

    def refuse(self, number: int, received_ms: int) -> EpochState:
        """After a push that can't be stored: it is no hole, as it will not come; it stays missing."""
        return self._lose(Interval(number, number, None, received_ms))

    def give_up(self, first: int, last: int, received_ms: int) -> tuple[EpochState, int]:
        """After its collector said that these will not come, and how many had not; one that comes then is new."""
        state, numbers = self, 0
        for low, high in holes(self.intervals, first, last):
            state = state._lose(Interval(low, high, None, received_ms))
            numbers += high - low + 1
        return state, numbers

    def _lose(self, run: Interval) -> EpochState:
        refused = add(self.refused, run)
        over = len(refused) > MOST_INTERVALS  # the oldest are then lost, and repetitions if they come again
        came = self._came(run)
        return replace(came, refused=refused[over:], lost=came.lost + (count(refused[:1]) if over else 0))

    def closed(self, last: int) -> EpochState:
        """After a later epoch has said which number was the last."""
        return replace(self, closed_at=max(last, self.closed_at or 0))

    def reached(self, held_since_ms: int | None, above_ms: int | None) -> tuple[int | None, bool]:
        """The promise that stands, and whether nothing is under way up to the last number.

        A hole holds promises back unless something above it was received before `held_since_ms`: then what is
        missing has had its time. `above_ms` is when the first push of a later epoch was received.
        """
        through: int | None = None
        following = 1
        for at, each in enumerate(self.intervals):
            received = min(above.received_ms for above in self.intervals[at:])
            if each.first > following and not _has_expired(_earlier(received, above_ms), held_since_ms):
                return through, False
            through, following = latest(through, each.through_ms), each.last + 1
        is_open = self.closed_at is not None and self.closed_at >= following
        return through, not is_open or _has_expired(above_ms, held_since_ms)

    def _came(self, run: Interval) -> EpochState:
        intervals = add(self.intervals, run)
        if len(intervals) <= MOST_INTERVALS:
            return replace(self, intervals=intervals)
        intervals, between, floor = merge_lowest(intervals)
        return replace(self, intervals=intervals, lost=self.lost + between, floor=max(self.floor, floor))

    def _cut_with(self, number: int, part: int) -> tuple[tuple[int, Intervals], ...]:
        known = dict(self.cut)
        parts = known.get(number)
        if parts is None:
            if part == 0 and not contains(self.intervals, number):
                return self.cut
            whole = contains(self.intervals, number) and not contains(self.refused, number)
            parts = (Interval(0, 0, None, 0),) if whole else ()
        known[number] = add(parts, Interval(part, part, None, 0))
        return tuple(sorted(known.items()))


def _earlier(one_ms: int, other_ms: int | None) -> int:
    return one_ms if other_ms is None else min(one_ms, other_ms)


def _has_expired(since_ms: int | None, held_since_ms: int | None) -> bool:
    return since_ms is not None and held_since_ms is not None and since_ms < held_since_ms
