"""`kill -9` at every step of frames and receipts: each synced scrape arrives once, and the receipts prove it."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.left import LeftLedger
from collector.spool.frame import Frame
from collector.spool.proof import Prover
from collector.spool.segment import list_segments, scan
from kernel.clock import SystemClock
from tests.collector.crasher import run_until_killed
from tests.collector.frames_crasher import DurableFrameGateway, ship_frames, ship_frames_and_die

FRAMES = 9
STEPS = [
    "spool.half_written",
    "spool.half_written:4",
    "spool.written:2",
    "spool.synced:2",
    "spool.synced:7",
    "push.receipt_kept",
    "push.receipt_kept:5",
    "push.answered:2",
    "push.counted:3",
    "spool.acknowledged:2",
    "spool.segment_kept",
    "spool.segment_kept:2",
]


def synced(folder: Path) -> int:
    """Frames that lay on disk when the process was killed."""
    count = 0
    for place in (folder / "billing", folder / "billing" / "archive"):
        for name in list_segments(place):
            path = place / str(name)
            count += sum(isinstance(one, Frame) for one in scan(path, name, path.stat().st_size))
    return count


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
async def test_after_a_kill_every_synced_scrape_arrives_once_and_is_proven(step: str, tmp_path: Path) -> None:
    run_until_killed(ship_frames_and_die, step, tmp_path, FRAMES)
    count = synced(tmp_path)
    await ship_frames(tmp_path, range(100, 104))
    gateway = DurableFrameGateway(tmp_path)
    values = [value for name, _, value in gateway.rows() if name == "a"]
    assert values == [float(number) for number in [*range(1, count + 1), *range(100, 104)]]
    keys = {gateway.signer.key: gateway.signer.public}
    proof = Prover(tmp_path / "billing", keys, keeps_bodies=True).run()
    assert proof.holds, proof
    assert proof.bodies == count + 4
    ledger = LeftLedger(tmp_path / "left.sqlite", SystemClock(), 100)
    assert [one.samples for one in ledger.families() if one.name == "a"] == [count + 4]
