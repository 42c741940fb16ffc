"""`byoc collector verify` and `spool`: what is proven, what is not, and that it is said."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from collector.cli import app
from collector.errors import SpoolUnavailable
from collector.push.answer import Answer
from collector.spool.epochs import Epochs
from collector.spool.files import load_checked, save_checked
from collector.spool.gaps import GapReason, GapRecords
from collector.spool.options import LaneOptions
from collector.wire.headers import PushLane
from collector.wire.receipt import PushName, Refusal
from kernel.clock import SystemClock
from tests.collector.frames import FrameStream, make_gateway
from tests.collector.test_frames_push import Shipped, shipping
from tests.collector.world import ACME, COLLECTOR, write_config

SMALL = LaneOptions(PushLane.BILLING, 10**8, segment=400, keep=1000, keep_bytes=10**8)


def command(folder: Path, *arguments: str) -> tuple[int, str]:
    config = write_config(folder, "https://localhost:1", **{"gateway+": {"identity": "spool/identity"}})
    result = CliRunner().invoke(app, [*arguments, "-c", str(config)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


async def ship(shipped: Shipped, count: int) -> None:
    stream = FrameStream(1)
    for at in range(1, count + 1):
        await stream.append(shipped.lane, at, {"a": at, "b": 2.5}, at)
    await shipped.lane.drained()


async def test_all_that_arrived_is_proven_without_the_gateway(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 20)
    code, said = command(tmp_path, "verify")
    assert code == 0, said
    assert "1 to 20: 20 with a receipt, 0 in gap records, 0 waiting" in said
    assert "20 receipts verified, 20 kept bodies hash as their receipts say" in said


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flip_kept_body(lane: Path) -> None:
    flip(min((lane / "archive").glob("*.seg")), -3)


def flip_receipt(lane: Path) -> None:
    flip(next(iter((lane / "receipts").glob("*.rcp"))), -20)


def lose_receipts(lane: Path) -> None:
    next(iter((lane / "receipts").glob("*.rcp"))).unlink()


def lose_one_number(lane: Path) -> None:
    """As if the epoch had had one more push of which nothing is left."""
    epochs = Epochs(lane / "epoch.json")
    epochs.load()
    save_checked(lane / "epoch.json", {"epoch": epochs.current + 1, "ends": [[epochs.current, 21]]})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (flip_kept_body, "FAULT"),
        (flip_receipt, "FAULT"),
        (lose_receipts, "no receipt for numbers 1 to 20"),
        (lose_one_number, "MISSING number 21"),
    ],
)
async def test_what_is_not_proven_is_said(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 20)
    spoil(tmp_path / "spool" / "billing")
    code, said = command(tmp_path, "verify")
    assert code == 1
    assert says in said


async def test_receipts_of_another_gateway_prove_nothing(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 3)
    (tmp_path / "spool" / "identity" / "receipt-keys.json").unlink()
    code, said = command(tmp_path, "verify")
    assert code == 1
    assert "one of the key set" in said


async def test_a_push_in_parts_is_proven_by_its_parts_and_what_was_put_aside(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        shipped.gateway.bad = {"c"}
        await FrameStream(1).append(shipped.lane, 1, dict.fromkeys("abcdef", 1.0), 1)
        await shipped.lane.drained()
    code, said = command(tmp_path, "verify")
    assert code == 0, said
    assert "gap number 1" in said


async def test_a_later_refusal_is_proven_by_its_signature(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        name = PushName(ACME.organization, ACME.project, COLLECTOR, "billing", shipped.lane.epoch, 1, 0)
        shipped.gateway.refused = [Refusal(name, "poisoned", 5)]
        await ship(shipped, 3)
    code, said = command(tmp_path, "verify")
    assert code == 0, said
    assert "gap number 1" in said
    gaps = tmp_path / "spool" / "billing" / "gaps.jsonl"
    gaps.write_text(gaps.read_text().replace("poisoned", "unwanted"))
    code, said = command(tmp_path, "verify")
    assert code == 1
    assert "FAULT gap record" in said


async def test_what_waits_is_listed_and_can_be_given_up_with_a_record(tmp_path: Path) -> None:
    gateway = make_gateway(tmp_path / "ca", SystemClock())
    async with shipping(tmp_path / "spool", gateway, SMALL) as shipped:
        await ship(shipped, 4)
        gateway.script = lambda _: Answer(0, "cut")
        stream = FrameStream(2)
        for at in range(5, 9):
            await stream.append(shipped.lane, at, {"a": at})
    code, said = command(tmp_path, "spool", "ls")
    assert code == 0
    head, *rows = [line.split("\t") for line in said.splitlines()]
    assert head[0] == "lane"
    assert {len(row) for row in rows} == {len(head)}
    assert {row[0] for row in rows} == {"billing"}
    assert {row[1] for row in rows} == {"kept", "waiting"}
    assert command(tmp_path, "spool", "purge", "--lane", "billing")[0] == 2
    code, said = command(tmp_path, "spool", "purge", "--lane", "billing", "--yes")
    assert code == 0
    assert said.endswith("billing: 4 frames given up, each in a gap record\n")
    gaps = GapRecords(tmp_path / "spool" / "billing").load()
    assert {gap.reason for gap in gaps} == {GapReason.PURGED}
    assert gaps[0].first == 5
    assert gaps[-1].last == 8
    code, said = command(tmp_path, "verify")
    assert code == 0, said
    assert "4 with a receipt, 4 in gap records" in said


async def test_rows_can_be_exported_and_read_again(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 9)
    out = tmp_path / "rows.csv"
    export = ("spool", "export", "--lane", "billing", "-o")
    assert command(tmp_path, *export, str(out), "--from", "3", "--to", "4")[0] == 0
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["timestamp_ms", "metric", "value"],
            ["3", "a", "3.0"],
            ["3", "b", "2.5"],
            ["4", "a", "4.0"],
            ["4", "b", "2.5"],
        ]
    text = tmp_path / "rows.txt"
    command(tmp_path, *export, str(text), "--format", "openmetrics", "--to", "1")
    assert text.read_text() == "a 1.0 0.001\nb 2.5 0.001\n# EOF\n"
    bodies = tmp_path / "bodies"
    command(tmp_path, *export, str(bodies), "--format", "frames")
    assert len(list(bodies.iterdir())) == 9


async def test_damage_is_found_by_reading_all(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 9)
    code, said = command(tmp_path, "spool", "verify")
    assert code == 0
    assert said.endswith("; damaged places: 0\n")
    flip_kept_body(tmp_path / "spool" / "billing")
    code, said = command(tmp_path, "spool", "verify")
    assert code == 1
    assert "checksum differs" in said
    assert said.endswith("; damaged places: 1\n")


async def test_over_its_bytes_the_oldest_kept_go_and_it_is_written_down(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 10**8, segment=600, keep=1000, keep_bytes=1500)
    async with shipping(tmp_path / "spool", options=options) as shipped:
        await ship(shipped, 40)
    archive = tmp_path / "spool" / "billing" / "archive"
    assert sum(path.stat().st_size for path in archive.glob("*.seg")) <= 1500
    removed = GapRecords(archive, "removed.jsonl").load()
    assert removed[0].first == 1
    assert [gap.first for gap in removed[1:]] == [(gap.last or 0) + 1 for gap in removed[:-1]]
    code, said = command(tmp_path, "verify")
    assert code == 0, said


async def test_a_lane_that_is_full_of_what_waits_gives_up_the_oldest_with_a_record(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 3000, segment=600, keep=1000, keep_bytes=10**6)
    gateway = make_gateway(tmp_path / "ca", SystemClock())
    gateway.script = lambda _: Answer(0, "cut")
    async with shipping(tmp_path / "spool", gateway, options) as shipped:
        stream = FrameStream(1)
        for at in range(1, 60):
            await stream.append(shipped.lane, at, {"a": at}, at)
        gateway.script = None
        await shipped.lane.drained()
        arrived = {receipt.name.sequence for receipt in shipped.receipts()}
    gaps = GapRecords(tmp_path / "spool" / "billing").load()
    lost = {number for gap in gaps for number in range(gap.first or 0, (gap.last or 0) + 1)}
    assert {gap.reason for gap in gaps} == {GapReason.QUOTA}
    assert arrived | lost == set(range(1, 60))
    assert len(arrived & lost) <= 1  # the one that was on its way
    assert command(tmp_path, "verify")[0] == 0


async def test_one_draft_over_the_whole_quota_is_a_gap_and_the_next_is_whole(tmp_path: Path) -> None:
    options = LaneOptions(PushLane.BILLING, 2500, segment=600)
    async with shipping(tmp_path / "spool", options=options) as shipped:
        stream = FrameStream(1)
        await stream.append(shipped.lane, 1, {"a": 1}, 1)
        with pytest.raises(SpoolUnavailable, match="over the quota"):
            await stream.append(shipped.lane, 2, {f"x{number * 7919}": number / 3 for number in range(500)}, 2)
        await stream.append(shipped.lane, 3, {"a": 3, "b": 3}, 3)
        await shipped.lane.drained()
        assert shipped.samples() == [("a", 1, 1.0), ("a", 3, 3.0), ("b", 3, 3.0)]
    assert load_checked(tmp_path / "spool" / "billing" / "epoch.json") is not None


async def test_what_was_found_good_is_read_again_only_in_full(tmp_path: Path) -> None:
    lane = tmp_path / "spool" / "billing"
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 10)
    assert command(tmp_path, "verify")[0] == 0
    kept = min((lane / "archive").glob("*.seg"))
    times = kept.stat()
    flip(kept, -3)
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk that rots
    async with shipping(tmp_path / "spool", shipped.gateway, SMALL) as shipped:
        await ship(shipped, 10)
    code, said = command(tmp_path, "verify")
    assert code == 0, said
    assert "20 receipts verified, 20 kept bodies hash as their receipts say" in said
    code, said = command(tmp_path, "verify", "--full")
    assert code == 1
    assert f"FAULT {kept.name}: not as it was when it was verified" in said


async def test_a_checkpoint_does_not_hide_a_changed_receipt_or_a_changed_file(tmp_path: Path) -> None:
    lane = tmp_path / "spool" / "billing"
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 20)
    assert command(tmp_path, "verify")[0] == 0
    flip_kept_body(lane)
    assert command(tmp_path, "verify")[0] == 1
    flip_kept_body(lane)
    assert command(tmp_path, "verify")[0] == 0
    flip_receipt(lane)
    code, said = command(tmp_path, "verify")
    assert code == 1
    assert "not as it was" in said


async def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    async with shipping(tmp_path / "spool", options=SMALL) as shipped:
        await ship(shipped, 5)
    assert command(tmp_path, "verify")[0] == 0
    flip(tmp_path / "spool" / "billing" / "verified.json", 20)
    code, said = command(tmp_path, "verify")
    assert code == 0, said
