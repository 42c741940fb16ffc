"""`byoc lake verify|compact|expire`, the cache of files, and the calendar: what stays and what goes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kernel.clock import VirtualClock, from_ms
from kernel.log.memory import MemoryLog
from metering.lake.api import Lake, ScanOptions
from metering.lake.cache import FileCache
from metering.lake.cli import lake_app
from metering.lake.errors import LakeDamaged
from metering.lake.retention import drop_old_days, tag_closed_months
from metering.lake.storage import LakeFileIO
from metering.lake.sweep import expire_snapshots, sweep_tables
from metering.lake.verify import verify
from metering.record import Lane
from tests.lake.setting import DAY, T0, Push, append, gauge, memory_log, open_lake, rows_of, stored_rows, writer_of
from tests.lake.test_cli import Folder

DAY_MS = 86_400_000
ONE = gauge("up", of="one")


async def filled(folder: Path, days: int = 3) -> tuple[MemoryLog, Lake]:
    """A commit and a push for each day."""
    log, lake = await memory_log(), await open_lake(folder)
    for day in range(days):
        await append(log, [Push([(ONE, T0 + day * DAY_MS + at, 1.0) for at in (1, 2)], number=day + 1)])
        await writer_of(lake, log).drain()
    return log, lake


def files(folder: Path, part: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if part in str(path.relative_to(folder)) and path.is_file())


async def findings(lake: Lake) -> list[str]:
    return (await verify(lake.places, None)).findings


async def test_a_whole_lake_has_no_findings(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    report = await verify(lake.places, None)
    assert (report.findings, report.files, report.rows) == ([], 4, 6)


async def test_each_damage_is_a_finding(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    samples, (series,) = files(tmp_path, "samples/data"), files(tmp_path, "series/data")
    whole = {path: path.read_bytes() for path in [*samples, series]}

    def restored() -> None:
        for path, content in whole.items():
            path.write_bytes(content)

    samples[0].unlink()
    assert "is gone" in (await findings(lake))[0]
    restored()
    samples[1].write_bytes(whole[samples[1]][:-1])
    assert any("bytes; the table says" in each for each in await findings(lake))
    restored()
    samples[2].write_bytes(whole[samples[0]])
    assert any("is not what the hash" in each for each in await findings(lake))
    restored()
    series.write_bytes(b"")
    assert any("series that the series table does not have" in each for each in await findings(lake))
    restored()
    (*_, horizon) = sorted(files(tmp_path, "horizon"), key=lambda path: path.stat().st_mtime)
    horizon.write_bytes(horizon.read_bytes() + b" ")
    again = await open_lake(tmp_path)
    assert any("altered" in each for each in await findings(again))


def test_verify_compact_and_expire_by_hand(tmp_path: Path) -> None:
    async def fill() -> MemoryLog:
        log, lake = await filled(tmp_path, days=1)
        for number in range(2, 6):
            await append(log, [Push([(ONE, T0 + number, 1.0)], number=number)])
            await writer_of(lake, log).drain()
        await lake.close()
        return log

    deployment = Folder(tmp_path, asyncio.run(fill()), VirtualClock())
    run = CliRunner().invoke
    merged = run(lake_app, ["compact"], obj=deployment)
    assert "5 files merged, 6 rows" in merged.output, merged.output
    assert run(lake_app, ["verify"], obj=deployment).exit_code == 0
    expired = run(lake_app, ["expire"], obj=deployment)
    assert "months tagged: none" in expired.output, expired.output
    files(tmp_path, "compacted")[0].write_bytes(b"broken")
    found = run(lake_app, ["verify"], obj=deployment)
    assert found.exit_code == 1
    assert "is not what the hash in its name says" in found.output


async def test_a_month_is_tagged_once_it_is_over_and_stays_readable(tmp_path: Path) -> None:
    log, lake = await filled(tmp_path)
    february = T0 + 31 * DAY_MS
    assert await tag_closed_months(lake.places, february + 4 * DAY_MS, 5) == ()
    assert await tag_closed_months(lake.places, february + 5 * DAY_MS, 5) == ("month-2026-01",)
    assert await tag_closed_months(lake.places, february + 9 * DAY_MS, 5) == ()
    tagged = lake.tables.samples().table.metadata.refs["month-2026-01"].snapshot_id
    rows = await stored_rows(lake)
    assert await drop_old_days(lake.places, T0 + 40 * DAY_MS, 39) == 1
    assert len(await stored_rows(lake)) == 0
    assert (await lake.info()).rows == 4
    for number in range(4, 18):
        await append(log, [Push([(ONE, T0 + 60 * DAY_MS, 1.0)], number=number)])
        await writer_of(lake, log, keep_snapshots=2).drain()
    await asyncio.to_thread(expire_snapshots, lake.tables, 2)
    await asyncio.to_thread(sweep_tables, lake.tables, 2**53)
    assert rows_of(await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=tagged))) == rows
    assert await findings(lake) == []


async def test_days_beyond_the_retention_go_and_pushes_stay_known(tmp_path: Path) -> None:
    log, lake = await filled(tmp_path)
    before = await lake.info()
    assert await drop_old_days(lake.places, T0 + 10 * DAY_MS, 0) == 0
    assert await drop_old_days(lake.places, T0 + 10 * DAY_MS, 8) == 2
    after = await lake.info()
    assert (after.rows, after.positions, after.horizon_sha256) == (2, before.positions, before.horizon_sha256)
    await append(log, [Push([(ONE, T0 + 1, 1.0)], number=1)])
    assert await writer_of(lake, log).drain() == 0


def test_a_cached_file_is_fetched_once_and_checked(tmp_path: Path) -> None:
    fetched = []

    def fetch() -> bytes:
        fetched.append(1)
        return b"content"

    sha256 = hashlib.sha256(b"content").hexdigest()
    assert FileCache(tmp_path, 100).open(sha256, fetch).read() == b"content"
    assert FileCache(tmp_path, 100).open(sha256, fetch).read() == b"content"
    assert len(fetched) == 1
    (path,) = tmp_path.glob("??/*")
    path.write_bytes(b"contend")
    assert FileCache(tmp_path, 100).open(sha256, fetch).read() == b"content"
    assert len(fetched) == 2
    with pytest.raises(LakeDamaged, match="altered"):
        FileCache(tmp_path, 100).open("0" * 64, fetch)


def test_the_files_that_were_not_read_for_longest_make_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 25)
    contents = [bytes([65 + number]) * 10 for number in range(3)]
    names = [hashlib.sha256(content).hexdigest() for content in contents]

    def read(number: int) -> bytes:
        return cache.open(names[number], lambda: contents[number]).read()

    for number in (0, 1):
        assert read(number) == contents[number]
        os.utime(tmp_path / names[number][:2] / names[number], (1000 + number, 1000 + number))
    left, young = (tmp_path / names[0][:2] / f".{name}.part" for name in ("left", "young"))
    for path in (left, young):
        path.write_bytes(b"half of a fi")
    os.utime(left, (1000, 1000))  # of a process that was killed
    for number in (0, 2):
        assert read(number) == contents[number]
    assert not left.exists()
    young.unlink()
    assert {path.name for path in tmp_path.glob("??/*")} == {names[0], names[2]}


def test_threads_share_a_cache(tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(20)]
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    wrong = []

    def read() -> None:
        cache = FileCache(tmp_path, 5000)
        for number in [*range(20)] * 3:
            with cache.open(names[number], lambda number=number: contents[number]) as file:  # type: ignore[misc]
                if file.read() != contents[number]:
                    wrong.append(number)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_only_files_of_a_far_warehouse_are_cached(tmp_path: Path) -> None:
    io = LakeFileIO({"byoc.cache-dir": str(tmp_path), "byoc.cache-bytes": "100"})
    name = f"byoc.samples-0-{0:020d}-{0:020d}-{'0' * 64}.parquet"
    assert io._cache_of(f"file:///somewhere/{name}") is None
    assert io._cache_of(f"s3://bucket/{name}") is not None


async def test_history_is_verified_too(tmp_path: Path) -> None:
    log, lake = await filled(tmp_path)
    await append(log, [Push([(ONE, T0 - 40 * DAY_MS, 1.0)], lane=Lane.HISTORY)])
    await writer_of(lake, log).drain()
    assert await findings(lake) == []
    assert await tag_closed_months(lake.places, T0 + DAY_MS, 0) == ("month-2025-11",)
    assert from_ms(T0).year == 2026
