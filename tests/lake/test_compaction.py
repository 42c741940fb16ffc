"""Compaction changes files and nothing else: not a row, not a position, not what a proof leads back to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog

from kernel.log.memory import MemoryLog
from metering.lake.api import Lake, ScanOptions
from metering.lake.compact import Compactor
from metering.lake.errors import LakeDamaged
from metering.lake.merging import cut_runs, is_sorted, merge_runs, read_runs
from metering.lake.rows import Runs
from metering.lake.series_table import read_series
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper, expire_snapshots
from tests.effort import costly
from tests.lake.setting import (
    DAY,
    T0,
    Push,
    append,
    gauge,
    memory_log,
    open_lake,
    rows_of,
    stored_rows,
    writer_of,
)

DAY_MS = 86_400_000
ONE, TWO = gauge("up", of="one"), gauge("up", of="two")


def compactor(lake: Lake, **chosen: int) -> Compactor:
    return Compactor(lake.places, LakeSettings.model_validate(chosen))


async def filled(folder: Path, pushes: int = 6) -> tuple[MemoryLog, Lake]:
    """A commit for each push, over two days; now and then the same instant twice, with another value."""
    log, lake = await memory_log(partitions=2), await open_lake(folder)
    for number in range(1, pushes + 1):
        rows = [(ONE, T0 + number, float(number)), (TWO, T0 + DAY_MS + number, 1.5), (ONE, T0 + 1, number * 2.0)]
        await append(log, [Push(rows, number=number), Push(rows[:1], number=number, collector="col-b")])
        await writer_of(lake, log, compact_ratio=0).drain()
    return log, lake


async def compact_all(lake: Lake, **chosen: int) -> None:
    while await compactor(lake, **chosen).compact_one(least_files=2):
        pass


async def everything(lake: Lake) -> list[tuple[object, ...]]:
    """All rows of all files, also those that a scan would drop."""
    table = await asyncio.to_thread(lambda: lake.tables.samples().table.scan().to_arrow())
    rows = table.to_pylist()
    for row in rows:
        if row["value"] is None:
            row["value"] = (row["reference"] + row["delta"]) / 10 ** row["scale"]
    names = ("series_id", "timestamp_ms", "value", "day", "tenant")
    return sorted((tuple(row[name] for name in names) for row in rows), key=repr)


async def test_the_files_become_few_and_the_rows_stay(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    rows, scanned, before = await everything(lake), await stored_rows(lake), await lake.info()
    origins = {origin for file in await lake.files(DAY, "acme") for origin in file.origins}
    done = [await compactor(lake).compact_one(least_files=2) for _ in range(4)]
    assert done[-1] is None
    assert sum(each.files_before - each.files_after for each in done if each) >= 10
    assert await everything(lake) == rows
    assert await stored_rows(lake) == scanned
    after = await lake.info()
    assert after.files == 2
    assert (after.positions, after.horizon_sha256, after.rows) == (
        before.positions,
        before.horizon_sha256,
        before.rows,
    )
    (file,) = await lake.files(DAY, "acme")
    assert set(file.origins) == origins
    scan = await lake.scan("acme", DAY)
    assert (scan.schema.metadata or {})[b"byoc.conflicts"] == b"1"
    assert (await asyncio.to_thread(read_series, lake.tables, "acme")).num_rows == 3


async def test_the_writer_goes_on_after_it_and_what_comes_late_is_merged_too(tmp_path: Path) -> None:
    log, lake = await filled(tmp_path)
    await compactor(lake).compact_one(least_files=2)
    await append(log, [Push([(ONE, T0, 9.0)], number=7), Push([(ONE, T0 + 1, 2.0)], number=3)])
    assert await writer_of(lake, log).drain() == 1
    rows = await everything(lake)
    await compact_all(lake)
    assert await everything(lake) == rows
    assert len(await lake.files(DAY, "acme")) == 1
    (file,) = await lake.files(DAY, "acme")
    assert len({origin.last for origin in file.origins if origin.source.topic == "byoc.samples"}) >= 7


async def test_a_commit_between_reading_and_replacing_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, lake = await filled(tmp_path)
    await append(log, [Push([(ONE, T0 + 50, 50.0)], number=7)])
    real, calls = SqlCatalog.commit_table, []

    def overtaken(self: SqlCatalog, *arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            asyncio.run(writer_of(lake, log).drain())
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SqlCatalog, "commit_table", overtaken)
    done = await compactor(lake).compact_one(least_files=2)
    assert done is not None
    assert len(calls) >= 3
    assert T0 + 50 in {at for _, at, _ in await stored_rows(lake)}
    assert (await lake.info()).rows == 6 * 4 + 1


async def test_of_two_that_compact_the_same_files_one_leaves_it(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    rows = await everything(lake)
    found = await asyncio.gather(*(compactor(lake).compact_one(least_files=2) for _ in range(2)))
    assert any(found)
    assert await everything(lake) == rows


async def test_a_tagged_snapshot_keeps_its_files(tmp_path: Path) -> None:
    log, lake = await filled(tmp_path)
    tagged = await lake.snapshot_id()
    assert tagged is not None
    await lake.tag("month-2026-01", tagged)
    rows = await stored_rows(lake)
    await compact_all(lake)
    for number in range(7, 20):
        await append(log, [Push([(ONE, T0 + number, 1.0)], number=number)])
        await writer_of(lake, log, keep_snapshots=2, compact_ratio=0).drain()
    await asyncio.to_thread(expire_snapshots, lake.tables, 2)
    await Sweeper(lake, LakeSettings(orphan_grace_seconds=0), lake.clock).sweep()
    assert rows_of(await lake.scan("acme", DAY, options=ScanOptions(snapshot_id=tagged))) == rows
    assert len(await lake.files(DAY, "acme", tagged)) > 1
    assert len(await stored_rows(lake)) == len(rows) + 13
    await lake.files(DAY, "acme")


async def test_a_damaged_file_is_found_and_not_rewritten(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    file, *_ = await lake.files(DAY, "acme")
    path = Path(file.location.removeprefix("file://"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LakeDamaged, match="altered"):
        await compact_all(lake)


async def test_a_file_is_not_larger_than_the_limit_but_for_one_series(tmp_path: Path) -> None:
    _, lake = await filled(tmp_path)
    rows = await everything(lake)
    await compact_all(lake, compact_samples=8)
    assert await everything(lake) == rows
    assert all(len(runs.values) <= 8 or len(runs.ids) == 1 for runs in await contents(lake))


async def contents(lake: Lake) -> list[Runs]:
    files = await lake.files(DAY, "acme")
    return [read_runs(Path(file.location.removeprefix("file://")).read_bytes()) for file in files]


keys = st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from([0.0, -0.0, 1.5, float("nan")]))


def runs_of(rows: list[tuple[int, int, float]]) -> Runs:
    rows = sorted(rows, key=lambda row: row[:2])
    numbers = np.array([row[0] for row in rows], np.int64)
    distinct, counts = np.unique(numbers, return_counts=True)
    ids = np.zeros((len(distinct), 16), np.uint8)
    ids[:, 3] = distinct
    return Runs(ids, counts, np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows]))


def listed(runs: Runs) -> list[tuple[int, int, int]]:
    numbers = np.repeat(runs.ids[:, 3], runs.counts).tolist()
    return list(zip(numbers, runs.timestamps_ms.tolist(), runs.values.view(np.uint64).tolist(), strict=True))


@costly(200)
@given(parts=st.lists(st.lists(keys, min_size=1, max_size=12), min_size=1, max_size=5), most=st.integers(1, 9))
def test_merging_keeps_every_row_in_one_order(parts: list[list[tuple[int, int, float]]], most: int) -> None:
    files = [runs_of(part) for part in parts]
    merged = merge_runs(files)
    assert sorted(listed(merged)) == sorted(row for each in files for row in listed(each))
    assert is_sorted(merged)
    pieces = list(cut_runs(merged, most))
    assert [row for piece in pieces for row in listed(piece)] == listed(merged)
    assert all(len(piece.values) <= most or len(piece.ids) == 1 for piece in pieces)
    assert listed(merge_runs(files[::-1])) == listed(merged)


def test_reading_a_file_gives_its_rows(tmp_path: Path) -> None:
    async def found() -> list[Runs]:
        _, lake = await filled(tmp_path, pushes=1)
        return await contents(lake)

    assert all(is_sorted(runs) for runs in asyncio.run(found()))
