"""`kill -9` at every step of spool and push: what was synced arrives, once, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.left import LeftLedger
from collector.push.dead_letters import DeadLetters
from collector.spool.frame import Frame
from collector.spool.segment import list_segments, scan
from collector.wire.rw2 import decode_request
from collector.wire.snappy import decompress
from kernel.clock import SystemClock
from tests.collector.crasher import FileGateway, run_until_killed, ship, ship_and_die
from tests.collector.world import LIMITS, Rows, rows_of

FRAMES = 7
STEPS = [
    "spool.half_written",
    "spool.half_written:3",
    "spool.written:2",
    "spool.synced:2",
    "push.answered:2",
    "push.counted:3",
    "spool.acknowledged:2",
    "spool.segment_deleted",
    "push.bisecting",
    "push.part_answered",
    "push.part_answered:2",
    "push.part_saved",
    "push.part_saved:3",
    "push.part_saved:5",
]


def kill_at(step: str, folder: Path) -> None:
    run_until_killed(ship_and_die, step, folder, FRAMES)


def synced_rows(folder: Path) -> dict[tuple[int, int], Rows]:
    """What the disk holds after the crash, by position."""
    lane = folder / "billing"
    found: dict[tuple[int, int], Rows] = {}
    for name in list_segments(lane):
        path = lane / str(name)
        for frame in scan(path, name, path.stat().st_size):
            if isinstance(frame, Frame):
                found[frame.position] = rows_of(decode_request(decompress(frame.payload, 2**31), LIMITS))
    return found


@pytest.mark.parametrize("step", STEPS)
async def test_after_a_kill_every_synced_sample_arrives_once(step: str, tmp_path: Path) -> None:
    kill_at(step, tmp_path)
    gateway = FileGateway(tmp_path / "gateway.jsonl")
    on_disk = synced_rows(tmp_path)
    before = gateway.witnessed()
    await ship(tmp_path, range(100, 103))
    witnessed = gateway.witnessed()

    bodies: dict[tuple[int, int, int], bytes] = {}
    for one in witnessed:
        assert bodies.setdefault(one.position, one.body) == one.body, "a number came back with other content"
    parts: dict[tuple[int, int], int] = {}
    for one in witnessed:
        position, part = one.position[:2], one.position[2]
        assert part >= parts.get(position, 0), "the whole came back after its parts"
        parts[position] = part
    stored: dict[tuple[int, int], Rows] = {}
    newest: dict[tuple[int, int], int] = {}
    for one in witnessed:
        position, part = one.position[:2], one.position[2]
        if one.accepted and part > newest.get(position, -1):  # the lake's rule: a number only grows
            newest[position] = part
            stored.setdefault(position, []).extend(one.rows())
    rejected = {(letter["epoch"], letter["sequence"]) for letter in DeadLetters(tmp_path / "dead.jsonl", 1).load()}
    for position, rows in on_disk.items():
        good = [row for row in rows if row[0] != "bad"]
        assert sorted(stored.get(position, [])) == sorted(good)
        assert (position in rejected) == (len(good) < len(rows))
    epochs = sorted({epoch for epoch, _ in stored})
    for epoch in epochs:
        numbers = sorted(number for of, number in stored if of == epoch)
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(stored) >= len({one.position[:2] for one in before} | on_disk.keys()) + 3


async def test_the_ledger_counts_a_frame_once_although_the_kill_came_between_ledger_and_spool(
    tmp_path: Path,
) -> None:
    kill_at("push.counted", tmp_path)
    frames = len(synced_rows(tmp_path))
    await ship(tmp_path, range(0))
    ledger = LeftLedger(tmp_path / "left.sqlite", SystemClock(), 100)
    assert [family.samples for family in ledger.families()] == [5 * frames]
