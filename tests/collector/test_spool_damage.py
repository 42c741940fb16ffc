"""The spool survives truncation and a flipped bit at any byte, and everything else that is found on disks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from collector.errors import SpoolFull, SpoolLocked, SpoolUnavailable
from collector.spool.files import save_checked
from collector.spool.frame import Frame
from collector.spool.gaps import GapReason
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions, PayloadDraft
from collector.spool.segment import SegmentName, list_segments, scan
from collector.wire.headers import PushLane
from kernel.clock import VirtualClock
from tests.effort import costly

OPTIONS = LaneOptions(PushLane.BILLING, 10**8, 10**6)


def open_lane(folder: Path, options: LaneOptions = OPTIONS) -> LaneSpool:
    lane = LaneSpool(folder, options, VirtualClock())
    lane.open()
    return lane


def draft(text: bytes) -> PayloadDraft:
    return PayloadDraft(1, b"meta", text, 5)


async def fill(folder: Path, payloads: list[bytes], options: LaneOptions = OPTIONS) -> None:
    lane = open_lane(folder, options)
    for payload in payloads:
        await lane.append(draft(payload))
    await lane.close()


async def read_all(lane: LaneSpool) -> list[bytes]:
    found = []
    while (frame := lane.reader.read()) is not None:
        found.append(frame.payload)
    return found


def only_segment(folder: Path) -> Path:
    (name,) = list_segments(folder)
    return folder / str(name)


PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


@costly(80)
@given(payloads=PAYLOADS, where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), truncate=st.booleans())
async def test_damage_at_any_byte_never_yields_a_wrong_frame_and_loses_only_what_it_hit(
    payloads: list[bytes], where: float, bit: int, truncate: bool
) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        await fill(folder, payloads)
        path = only_segment(folder)
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        ends = frame_ends(path)
        hit = next(index for index, end in enumerate(ends) if at < end)
        if truncate:
            del content[at:]
            survivors = payloads[:hit]
        else:
            content[at] ^= 1 << bit
            survivors = payloads[:hit] + payloads[hit + 1 :]
        path.write_bytes(content)

        lane = open_lane(folder)
        assert await read_all(lane) == survivors
        gaps = lane.gaps.load()
        if not truncate and hit < len(payloads) - 1:
            assert [(gap.reason, gap.first, gap.last) for gap in gaps] == [(GapReason.DAMAGE, hit + 1, hit + 1)]
        await lane.close()


def frame_ends(path: Path) -> list[int]:
    """Where each frame ends, by the format's own words: magic 4, length 4, checksum 4, then the rest."""
    content, ends, at = path.read_bytes(), [], 0
    while at < len(content):
        at += 12 + int.from_bytes(content[at + 4 : at + 8], "little")
        ends.append(at)
    return ends


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_arbitrary_bytes_hold_no_frame(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as text:
        path = Path(text) / "x.seg"
        path.write_bytes(content)
        assert not [one for one in scan(path, SegmentName(1, 1, 7), len(content)) if isinstance(one, Frame)]


async def test_a_frame_that_a_target_wrote_into_a_label_is_not_read_as_one(tmp_path: Path) -> None:
    await fill(tmp_path / "a", [b"true"])
    forged = only_segment(tmp_path / "a").read_bytes()
    await fill(tmp_path / "b", [b"padding" + forged + b"padding", b"after"])
    path = only_segment(tmp_path / "b")
    content = bytearray(path.read_bytes())
    content[2] ^= 1  # the magic of the frame that holds the forgery: the reader has to search
    path.write_bytes(content)
    lane = open_lane(tmp_path / "b")
    assert await read_all(lane) == [b"after"]
    await lane.close()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"epoch":1}\n00000000\n'])
async def test_an_unreadable_set_of_settled_means_that_all_is_sent_again(tmp_path: Path, content: bytes) -> None:
    await fill(tmp_path, [b"1", b"2"])
    (tmp_path / "settled.json").write_bytes(content)
    lane = open_lane(tmp_path)
    assert await read_all(lane) == [b"1", b"2"]
    await lane.close()


async def test_a_set_of_settled_that_is_a_folder_is_moved_aside(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1", b"2"])
    (tmp_path / "settled.json").mkdir()
    lane = open_lane(tmp_path)
    await lane.settle(await lane.next_frame())
    await lane.close()
    again = open_lane(tmp_path)
    assert await read_all(again) == [b"2"]
    await again.close()


async def test_what_is_settled_of_an_epoch_far_ahead_loses_nothing(tmp_path: Path) -> None:
    lane = open_lane(tmp_path)
    await lane.append(draft(b"1"))
    frame = await lane.next_frame()
    await lane.settle(Frame(frame.epoch + 10**6, 99, frame.lane, None, 0, b"", b""))
    await lane.close()
    again = open_lane(tmp_path)
    assert again.epoch > frame.epoch + 10**6
    await again.append(draft(b"2"))
    assert await read_all(again) == [b"1", b"2"]
    await again.close()


async def test_the_cursor_of_an_older_version_is_taken_over(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1", b"2", b"3"])
    (name,) = list_segments(tmp_path)
    save_checked(tmp_path / "cursor.json", {"epoch": name.epoch, "sequence": 2})
    lane = open_lane(tmp_path)
    assert await read_all(lane) == [b"3"]
    await lane.close()


async def test_junk_beside_the_segments_is_left_alone(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1"])
    (tmp_path / "0000000000000001-00000001-00000000.seg").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "x.seg").write_bytes(b"junk")
    lane = open_lane(tmp_path)
    assert await read_all(lane) == [b"1"]
    await lane.close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


async def test_extra_bytes_and_a_partial_header_after_the_tail_are_ignored(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1", b"2"])
    path = only_segment(tmp_path)
    path.write_bytes(path.read_bytes() + path.read_bytes()[:9])
    lane = open_lane(tmp_path)
    await lane.append(draft(b"3"))
    assert await read_all(lane) == [b"1", b"2", b"3"]
    await lane.close()


async def test_a_damaged_second_segment_does_not_stop_the_third(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1" * 50, b"2" * 50, b"3" * 50], LaneOptions(PushLane.BILLING, 10**8, 10))
    names = list_segments(tmp_path)
    assert len(names) == 3
    (tmp_path / str(names[1])).write_bytes(b"\0" * 100)
    lane = open_lane(tmp_path)
    assert await read_all(lane) == [b"1" * 50, b"3" * 50]
    assert [gap.reason for gap in lane.gaps.load()] == [GapReason.DAMAGE]
    await lane.close()


async def test_a_segment_that_was_sent_and_deleted_is_not_told_of_as_damage(tmp_path: Path) -> None:
    small = LaneOptions(PushLane.BILLING, 10**8, 10)
    await fill(tmp_path, [b"1" * 50, b"2" * 50, b"3" * 50], small)
    lane = open_lane(tmp_path, small)
    frame = lane.reader.read()
    assert frame is not None
    await lane.settle(frame)
    await lane.close()
    assert len(list_segments(tmp_path)) == 2
    with capture_logs() as logs:
        lane = open_lane(tmp_path, small)
        assert await read_all(lane) == [b"2" * 50, b"3" * 50]
        await lane.close()
    assert [one["event"] for one in logs if one["event"] == "segment_damaged"] == []


async def test_a_segment_copied_under_another_name_is_not_sent_twice(tmp_path: Path) -> None:
    await fill(tmp_path, [b"1"])
    path = only_segment(tmp_path)
    name = list_segments(tmp_path)[0]
    (tmp_path / str(SegmentName(name.epoch + 1, 1, name.salt))).write_bytes(path.read_bytes())
    lane = open_lane(tmp_path)
    assert await read_all(lane) == [b"1"]
    await lane.close()


async def test_the_epoch_grows_although_the_clock_steps_back_and_its_file_is_gone(tmp_path: Path) -> None:
    clock = VirtualClock()
    epochs = []
    for _ in range(4):
        lane = LaneSpool(tmp_path, OPTIONS, clock)
        lane.open()
        await lane.append(draft(b"x"))
        epochs.append(lane.epoch)
        await lane.close()
        clock.step_wall(-3600)
        (tmp_path / "epoch.json").unlink()
    assert epochs == sorted(set(epochs))


async def test_two_processes_cannot_open_a_lane(tmp_path: Path) -> None:
    lane = open_lane(tmp_path)
    with pytest.raises(SpoolLocked, match="open in another process"):
        open_lane(tmp_path)
    await lane.close()
    await open_lane(tmp_path).close()


async def test_over_the_quota_the_oldest_go_and_the_gap_says_which(tmp_path: Path) -> None:
    lane = open_lane(tmp_path, LaneOptions(PushLane.BILLING, 1500, 400))
    for number in range(1, 11):
        await lane.append(draft(b"%d" % number * 200 if number < 10 else b"x" * 200))
    kept = await read_all(lane)
    gaps = lane.gaps.load()
    lost = [number for gap in gaps for number in range(gap.first or 0, (gap.last or 0) + 1)]
    assert lost == list(range(1, 11 - len(kept)))
    assert {gap.reason for gap in gaps} == {GapReason.QUOTA}
    assert sum(gap.samples or 0 for gap in gaps) == len(lost) == lane.dropped_frames
    assert lane.bytes <= 1500
    await lane.close()


async def test_a_lane_that_may_not_drop_says_that_it_is_full_until_an_acknowledgement(
    tmp_path: Path,
) -> None:
    lane = open_lane(tmp_path, LaneOptions(PushLane.HISTORY, 1500, 100, drop_oldest=False))
    for _ in range(3):
        await lane.append(draft(b"x" * 300))
    with pytest.raises(SpoolFull):
        await lane.append(draft(b"x" * 700))
    for _ in range(3):
        await lane.settle(await lane.next_frame())
    assert lane.space.is_set()
    await lane.append(draft(b"x" * 300))
    await lane.close()


async def test_a_disk_that_is_full_records_a_gap_and_the_next_frame_takes_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = open_lane(tmp_path)
    assert await lane.append(draft(b"1")) == 1
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", _no_space)
        with pytest.raises(SpoolUnavailable, match="No space"):
            await lane.append(draft(b"lost"))
    assert await lane.append(draft(b"2")) == 2
    assert await read_all(lane) == [b"1", b"2"]
    assert [(gap.reason, gap.samples) for gap in lane.gaps.load()] == [(GapReason.DISK, 1)]
    await lane.close()


def _no_space(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")
