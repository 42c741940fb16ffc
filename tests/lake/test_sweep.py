"""Snapshots expire and orphans go; what is referenced, tagged, young or still to be committed stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.clock import VirtualClock, from_ms
from kernel.log.memory import MemoryLog
from metering.lake.api import Lake, ScanOptions
from metering.lake.errors import LakeDamaged, UnknownSnapshot
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper, expire_snapshots
from tests.lake.setting import DAY, T0, Push, append, gauge, memory_log, open_lake, rows_of, stored_rows, writer_of

ONE = gauge("up")


async def commit(log: MemoryLog, lake: Lake, numbers: range, **settings: float) -> None:
    for number in numbers:
        await append(log, [Push([(ONE, T0 + number, float(number))], number=number)])
        await writer_of(lake, log, **settings).drain()


def age(folder: Path, moment_ms: int = T0) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (moment_ms / 1000, moment_ms / 1000))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def sweeper(lake: Lake, at_ms: int) -> Sweeper:
    return Sweeper(lake, LakeSettings(orphan_grace_seconds=3600), VirtualClock(from_ms(at_ms)))


async def test_old_snapshots_go_and_tagged_ones_stay_readable(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await commit(log, lake, range(1, 3), keep_snapshots=2)
    closed, loose = await lake.snapshot_id(), lake.tables.samples().table.metadata.snapshots[0].snapshot_id
    assert closed is not None
    await lake.tag("month-2026-01", closed)
    await lake.tag("month-2026-01", closed)
    with pytest.raises(LakeDamaged, match="stands for"):
        await lake.tag("month-2026-01", loose)
    await commit(log, lake, range(3, 16), keep_snapshots=2)
    assert (await lake.info()).snapshots < 14
    age(tmp_path)
    before = await lake.info()
    swept = await sweeper(lake, T0 + 3_600_001).sweep()
    assert swept.files > 0
    as_closed = await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=closed))
    assert [value for *_, value in rows_of(as_closed)] == [1.0, 2.0]
    assert len(await stored_rows(lake)) == 15
    assert await lake.info() == before
    await lake.horizon(closed)
    with pytest.raises(UnknownSnapshot):
        await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=loose))
    await commit(log, lake, range(16, 17))  # and the lake goes on
    assert len(await stored_rows(await open_lake(tmp_path))) == 16


async def test_a_second_sweep_finds_nothing(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await commit(log, lake, range(1, 14), keep_snapshots=2)
    age(tmp_path)
    assert (await sweeper(lake, T0 + 3_600_001).sweep()).files > 0
    kept = files(tmp_path)
    assert (await sweeper(lake, T0 + 3_600_001).sweep()).files == 0
    assert files(tmp_path) == kept


async def test_young_orphans_and_files_still_to_be_committed_stay(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await commit(log, lake, range(1, 3))
    data = tmp_path / "warehouse" / "byoc" / "samples" / "data"
    (known,) = {path.parent for path in data.rglob("*.parquet")}
    partition = next(iter(known.glob("*.parquet"))).name.split("-")[1]
    for first, name in ((0, "never"), (2, "perhaps")):
        orphan = known / f"byoc.samples-{partition}-{first:020d}-{first:020d}-{name.encode().hex():0>64}.parquet"
        orphan.write_bytes(b"written, and then the power went")
    junk = tmp_path / "warehouse" / "byoc" / "samples" / "metadata" / "lost-m0.avro"
    junk.write_bytes(b"manifest of a commit that failed")
    before = files(tmp_path)
    assert (await sweeper(lake, T0).sweep()).files == 0  # all of it is younger than the grace
    age(tmp_path)
    await sweeper(lake, T0 + 3_600_001).sweep()
    gone = {path.rpartition("/")[2] for path in before - files(tmp_path)}
    assert "lost-m0.avro" in gone
    assert any(b"never".hex() in name for name in gone)
    assert not any(b"perhaps".hex() in name for name in gone)
    assert len(await stored_rows(lake)) == 2


async def test_expiry_keeps_the_current_snapshot(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await commit(log, lake, range(1, 13), keep_snapshots=100)
    assert expire_snapshots(lake.tables, keep=2) > 0
    assert (await lake.info()).snapshots == 2
    assert len(await stored_rows(lake)) == 12
