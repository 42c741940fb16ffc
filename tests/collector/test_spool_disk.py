"""A disk that is really full: what does not fit is a gap that was written down, what fits afterwards is stored."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.errors import SpoolUnavailable
from collector.spool.gaps import RESERVE_BYTES, GapReason
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions, PayloadDraft
from collector.spool.segment import list_segments
from collector.wire.headers import PushLane
from kernel.clock import SystemClock

DISK_BYTES = 1024 * 1024
OPTIONS = LaneOptions(PushLane.BILLING, 10**9, segment=128 * 1024, keep=1000, keep_bytes=10**9)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def draft(number: int, size: int = 20_000) -> PayloadDraft:
    return PayloadDraft(1, b"", b"%06d" % number + os.urandom(size), number)


async def fill(lane: LaneSpool) -> tuple[list[int], int]:
    """Append until the disk refuses five times; returns the numbers stored, and how many drafts were not."""
    stored, refused = [], 0
    number = 0
    while refused < 5:
        number += 1
        try:
            stored.append(await lane.append(draft(number)))
        except SpoolUnavailable:
            refused += 1
    return stored, refused


async def test_what_a_full_disk_does_not_take_is_recorded_in_the_reserve(disk: Path) -> None:
    lane = LaneSpool(disk / "lane", OPTIONS, SystemClock())
    lane.open()
    stored, refused = await fill(lane)
    gaps = lane.gaps.load()
    assert [gap.reason for gap in gaps] == [GapReason.DISK] * refused
    assert sum(gap.samples or 0 for gap in gaps) == refused
    assert lane.gaps.unwritten == 0
    assert stored == list(range(1, len(stored) + 1))
    await lane.close()

    (disk / "lane" / str(list_segments(disk / "lane")[0])).unlink()  # somebody makes room
    again = LaneSpool(disk / "lane", OPTIONS, SystemClock())
    again.open()
    assert (disk / "lane" / "reserve").stat().st_size == RESERVE_BYTES
    assert await again.append(draft(99)) == 1
    found = []
    while (frame := again.reader.read()) is not None:
        found.append(int(frame.payload[:6]))
    assert found[-1] == 99
    assert found[:-1] == sorted(found[:-1])
    await again.close()


async def test_kept_bodies_make_room_for_what_was_not_delivered_yet(disk: Path) -> None:
    lane = LaneSpool(disk / "lane", OPTIONS, SystemClock())
    lane.open()
    for number in range(1, 120):
        await lane.append(draft(number))
        await lane.settle(await lane.next_frame())
    assert lane.gaps.load() == []
    removed = lane.shelf.removed.load()
    assert removed[0].first == 1
    assert list_segments(disk / "lane" / "archive")
    await lane.close()


async def test_a_settled_set_that_can_not_be_written_is_no_settlement(disk: Path) -> None:
    lane = LaneSpool(disk / "lane", LaneOptions(PushLane.BULK, 10**9, segment=128 * 1024), SystemClock())
    lane.open()
    await fill(lane)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    frame = await lane.next_frame()
    with pytest.raises(OSError, match="No space"):
        await lane.settle(frame)
    filler.unlink()
    await lane.settle(frame)
    await lane.close()
    again = LaneSpool(disk / "lane", OPTIONS, SystemClock())
    again.open()
    first = again.reader.read()
    assert first is not None
    assert first.sequence == 2
    await again.close()
