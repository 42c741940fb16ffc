"""Which push numbers of one epoch have come, as intervals; in any order, with the same result.

Numbers grow from 1 without a gap, so whatever is not in an interval is a hole: still under way, or lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple


class Interval(NamedTuple):
    """Numbers `[first, last]`; the latest promise that one of them carried, and when the earliest was received."""

    first: int
    last: int
    through_ms: int | None
    received_ms: int


Intervals = tuple[Interval, ...]  # ascending, never touching
_LAST = attrgetter("last")


def contains(intervals: Intervals, number: int) -> bool:
    """Whether that number has come."""
    at = bisect_left(intervals, number, key=_LAST)
    return at < len(intervals) and intervals[at].first <= number


def add(intervals: Intervals, new: Interval) -> Intervals:
    """With the numbers of `new`; what touches or overlaps becomes one."""
    start = bisect_left(intervals, new.first - 1, key=_LAST)
    stop = start
    while stop < len(intervals) and intervals[stop].first <= new.last + 1:
        stop += 1
    return (*intervals[:start], _joined((new, *intervals[start:stop])), *intervals[stop:])


def holes(intervals: Intervals, first: int, last: int) -> list[tuple[int, int]]:
    """The runs of `[first, last]` that have not come."""
    found = []
    for each in intervals[bisect_left(intervals, first, key=_LAST) :]:
        if each.first > last:
            break
        if each.first > first:
            found.append((first, each.first - 1))
        first = each.last + 1
    return [*found, (first, last)] if first <= last else found


def remove(intervals: Intervals, number: int) -> Intervals:
    """Without that number."""
    kept: list[Interval] = []
    for each in intervals:
        if not each.first <= number <= each.last:
            kept.append(each)
            continue
        if each.first < number:
            kept.append(each._replace(last=number - 1))
        if number < each.last:
            kept.append(each._replace(first=number + 1))
    return tuple(kept)


def merge_lowest(intervals: Intervals) -> tuple[Intervals, int, int]:
    """The lowest two as one; also how many numbers lay between them, and the last of these."""
    low, high = intervals[:2]
    return (_joined((low, high)), *intervals[2:]), high.first - low.last - 1, high.first - 1


def count(intervals: Intervals) -> int:
    """How many numbers have come."""
    return sum(each.last - each.first + 1 for each in intervals)


def latest(*times_ms: int | None) -> int | None:
    """The latest of those that are known."""
    return max((value for value in times_ms if value is not None), default=None)


def _joined(parts: Sequence[Interval]) -> Interval:
    return Interval(
        min(each.first for each in parts),
        max(each.last for each in parts),
        latest(*(each.through_ms for each in parts)),
        min(each.received_ms for each in parts),
    )
