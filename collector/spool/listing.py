"""Looks at a lane from outside, without its lock: what there is, and whether it can be read; and gives it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.spool.frame import Frame
from collector.spool.gaps import GapReason
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.spool.segment import Damage, SegmentName, list_segments, scan
from collector.spool.settled import Settled
from kernel.clock import SystemClock


@dataclass(frozen=True, slots=True)
class ListedSegment:
    """`modified`: seconds since 1970 of the last write. `settled`: `all`, `some` or `none`."""

    name: SegmentName
    where: str
    first: int
    last: int
    bytes: int
    modified: float
    settled: str


def list_lane(folder: Path) -> Iterator[ListedSegment]:
    """Kept segments, then those with something left, in order. Blocking."""
    settled = Settled(folder / "settled.json")
    settled.load()
    for where, place in (("kept", folder / "archive"), ("waiting", folder)):
        names = list_segments(place)
        for index, name in enumerate(names):
            path = place / str(name)
            try:
                stat = path.stat()
                first, last = _numbers(path, name, names[index + 1 :])
            except OSError:
                continue  # settled and put away meanwhile
            shown = "all" if where == "kept" else _settled(settled, name.epoch, first, last)
            yield ListedSegment(name, where, first, last, stat.st_size, stat.st_mtime, shown)


def _numbers(path: Path, name: SegmentName, later: list[SegmentName]) -> tuple[int, int]:
    following = next((one for one in later if one.epoch == name.epoch and one.first), None)
    if name.first and following is not None:
        return name.first, following.first - 1
    numbers = [one.sequence for one in scan(path, name, path.stat().st_size) if isinstance(one, Frame)]
    return (min(numbers), max(numbers)) if numbers else (0, 0)


def _settled(settled: Settled, epoch: int, first: int, last: int) -> str:
    if epoch < settled.floor or not first:
        return "all"
    numbers = settled.epochs.get(epoch)
    missing = numbers.missing(first, last) if numbers is not None else [(first, last)]
    if not missing:
        return "all"
    return "none" if missing == [(first, last)] else "some"


def count_segments(folder: Path) -> int:
    """How many there are, kept or waiting."""
    return sum(len(list_segments(place)) for place in (folder / "archive", folder))


def find_damage(folder: Path) -> Iterator[str]:
    """A line for every stretch of bytes that is no frame; the torn end of a write that was killed is none."""
    for place in (folder / "archive", folder):
        for name in list_segments(place):
            path = place / str(name)
            try:
                for found in scan(path, name, path.stat().st_size):
                    if isinstance(found, Damage) and not found.torn:
                        yield f"{path}: {found.length} bytes from {found.offset} on: {found.reason}"
            except FileNotFoundError:
                continue
            except OSError as error:
                yield f"{path}: {error}"


def purge_lane(folder: Path, options: LaneOptions, older_than_seconds: float) -> int:
    """Drop segments that wait and were not written for so long; returns the frames given up. Raises SpoolLocked."""
    clock = SystemClock()
    lane = LaneSpool(folder, options, clock)
    lane.open()
    try:
        bound, frames = clock.now_ms() / 1000 - older_than_seconds, 0
        for name in lane.shelf.names():
            if (folder / str(name)).stat().st_mtime <= bound:
                frames += lane.shelf.drop(name, GapReason.PURGED, "byoc collector spool purge")
        return frames
    finally:
        lane.release()
