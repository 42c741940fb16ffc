"""The witness against a real lake, whose files are tampered with behind the product's back."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path

import pytest

from console.demo.rows import raw_rows
from console.demo.witness import Scrape, Verdict, compare
from metering.lake.api import Lake
from metering.lake.scan import ScanRequest, plan_files
from metering.lake.writer import LakeWriter
from tests.lake.setting import DAY, T0, Push, append, gauge, memory_log, open_lake

INSTANCE = "127.0.0.1:9091"
ALLOWED = re.compile(r"milvus_.*")
ATTACHED = frozenset({"job", "instance", "organization", "project"})
SENT = {"instance": INSTANCE, "job": "milvus", "organization": "acme", "project": "prod"}


@pytest.fixture
async def lake(tmp_path: Path) -> Lake:
    """Five scrapes of two series and `up`, each shipped and committed as a file of its own."""
    log = await memory_log()
    lake = await open_lake(tmp_path)
    for number in range(1, 6):
        at = T0 + 1000 * number
        rows = [
            (gauge("up", **SENT), at, 1.0),
            (gauge("milvus_lag", **SENT), at, number / 10),
            (gauge("milvus_rows", node="1", **SENT), at, float(number)),
        ]
        await append(log, [Push(rows, number)])
        await LakeWriter(lake, log).drain()
    return lake


def scrapes() -> list[Scrape]:
    return [
        Scrape(INSTANCE, T0 + 1000 * number + 2, f'milvus_lag {number / 10}\nmilvus_rows{{node="1"}} {number}\n')
        for number in range(1, 6)
    ]


async def judge(lake: Lake) -> Verdict:
    rows = await asyncio.to_thread(raw_rows, lake.tables, "acme")
    return compare(scrapes(), rows, allowed=ALLOWED, attached=lambda _: ATTACHED)


async def double(lake: Lake, which: int) -> None:
    """Register a copy of a data file: what a writer that forgot its position would do."""
    files = sorted(file.location for file in plan_files(lake.tables.samples(), ScanRequest("acme", DAY)))
    original = files[which].removeprefix("file://")
    copy = original.replace(".parquet", "-again.parquet")
    shutil.copyfile(original, copy)
    lake.tables.samples().table.add_files([copy], check_duplicate_files=False)


async def test_untouched_it_is_whole(lake: Lake) -> None:
    verdict = await judge(lake)
    assert (verdict.scraped, verdict.stored) == (10, 10)
    assert verdict.lost == verdict.duplicated == verdict.different == verdict.unexplained == 0


async def test_one_batch_removed_and_another_doubled_are_both_seen(lake: Lake) -> None:
    await double(lake, 0)
    lake.tables.samples().table.delete(f"timestamp_ms == {T0 + 3000}")
    verdict = await judge(lake)
    assert (verdict.scraped, verdict.stored, verdict.lost, verdict.duplicated) == (10, 8, 2, 2)
    assert verdict.different == verdict.unexplained == 0


async def test_a_row_that_nobody_scraped_is_seen(lake: Lake, tmp_path: Path) -> None:
    log = await memory_log()
    stranger = Push([(gauge("milvus_lag", **SENT), T0 + 9000, 7.0)], 9, collector="col-b")
    await append(log, [stranger])
    other = await open_lake(tmp_path / "other")
    await LakeWriter(other, log).drain()
    rows = await asyncio.to_thread(raw_rows, lake.tables, "acme")
    rows += await asyncio.to_thread(raw_rows, other.tables, "acme")
    verdict = compare(scrapes(), rows, allowed=ALLOWED, attached=lambda _: ATTACHED)
    assert (verdict.lost, verdict.unexplained) == (0, 1)
