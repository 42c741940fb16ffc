"""From the name of a data file to the pushes it was made from, also when file, lineage and log are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.errors import InvalidInput
from kernel.ids import OrganizationId, ProjectId, Tenant
from metering.batches import StoredBatch, parse_batches, render_batches
from metering.lake.api import Lake
from metering.lake.batches import save_batches
from metering.lake.compact import Compactor
from metering.lake.errors import LakeDamaged
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper, expire_snapshots
from metering.record import Lane
from tests.lake.setting import DAY, T0, Push, append, gauge, memory_log, open_lake, writer_of

UP = gauge("up", of="one")
OTHER = Tenant(OrganizationId("org-b"), ProjectId("main"))


async def names_of(lake: Lake) -> list[str]:
    return [file.location.rsplit("/data/", 1)[-1] for file in await lake.files(DAY, "acme")]


def numbers(batches: list[StoredBatch]) -> list[tuple[str, str, int | None, int]]:
    return [(one.collector, one.lane, one.number, one.offset) for one in batches]


async def test_a_file_leads_to_the_pushes_that_were_stored_in_it(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    first, again = Push([(UP, T0 + 1, 1.0)], number=1), Push([(UP, T0 + 1, 1.0)], number=1)
    bulk, foreign = Push([(UP, T0 + 2, 1.0)], lane=Lane.BULK), Push([(UP, T0 + 3, 1.0)], number=None)
    other, undated = Push([(UP, T0 + 1, 1.0)], tenant=OTHER), Push([(UP, -1, 1.0)], number=2)
    await append(log, [first, again, bulk, other, undated, foreign])
    await writer_of(lake, log).drain()
    (name,) = await names_of(lake)
    ranges, batches = await lake.batches("acme", [name, name])
    assert ranges == {name: (("byoc.samples", 0, 0, 5),)}
    # Not the repeated push, nor that which can't be stored, nor the other tenant's.
    assert numbers(batches) == [("col-a", "billing", 1, 0), ("col-a", "bulk", 1, 2), ("col-a", "billing", None, 5)]
    assert {one.sha256 for one in batches} == {"0" * 64}
    assert parse_batches(render_batches(reversed(batches)), "a test") == batches


async def test_a_merged_file_leads_there_after_it_was_swept_too(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    merged = []
    for number in range(1, 5):
        await append(log, [Push([(UP, T0 + number, 1.0)], number=number)])
        await writer_of(lake, log, compact_ratio=0).drain()
        if number > 1:
            assert await Compactor(lake.places, LakeSettings()).compact_one(least_files=2)
            merged += await names_of(lake)
    expire_snapshots(lake.tables, 1)
    await Sweeper(lake, LakeSettings(orphan_grace_seconds=0), lake.clock).sweep()
    assert len(set(merged)) == 3
    for count, name in enumerate(merged, 2):
        ranges, batches = await lake.batches("acme", [name])
        assert [one.number for one in batches] == list(range(1, count + 1))
        assert len(ranges[name]) == count


async def test_what_is_gone_or_altered_is_said(tmp_path: Path) -> None:
    log, lake = await memory_log(partitions=1), await open_lake(tmp_path)
    await append(log, [Push([(UP, T0 + 1, 1.0)])])
    await writer_of(lake, log).drain()
    (name,) = await names_of(lake)
    ((offsets,),) = (await lake.batches("acme", [name]))[0].values()
    with pytest.raises(LakeDamaged, match="not written by the lake writer"):
        await lake.batches("acme", ["2026-01-01/acme/prod/part-0.parquet"])
    stored = "proof/batches/byoc.samples/0/" + f"{0:020d}-{0:020d}.tsv.zst"
    await lake.objects.put(stored, b"not zstd")
    with pytest.raises(LakeDamaged, match="was altered"):
        await lake.batches("acme", [name])
    await lake.objects.delete(stored)
    with pytest.raises(LakeDamaged, match="is gone"):
        await lake.batches("acme", [name])
    await save_batches(lake.objects, {offsets: []})
    assert (await lake.batches("acme", [name]))[1] == []


@pytest.mark.parametrize(
    "text",
    [
        "t\t0\t1\ta\tb\tc\tbilling\t1\t1\t0\tff\n",
        "t\t0\t1\n",
        f"t\t0\tx\ta\tb\tc\tbilling\t1\t1\t0\t{'0' * 64}\n",
        f"t\t0\t1\ta\tb\tc\tbilling\t1\t1\t0\t{'0' * 64}\n" * 2,
    ],
)
def test_a_line_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"line [12]"):
        parse_batches(text.encode(), "batches.tsv")
