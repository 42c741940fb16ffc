"""Full files of a day become stretches of ids: no row is lost or doubled, and no kill leaves the half of it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.lake.api import Lake
from metering.lake.errors import LakeUnavailable
from metering.lake.merging import is_sorted, merge_runs
from metering.lake.parquet import write_samples
from metering.lake.storage import LakeFileIO
from metering.lake.stretches import stretched
from metering.lake.verify import verify
from tests.effort import costly
from tests.lake.crash_world import ROOT
from tests.lake.setting import ACME, DAY, T0, Push, append, gauge, memory_log, open_lake, writer_of
from tests.lake.test_compaction import compact_all, contents, everything, keys, listed, runs_of

FILES_STORED = 7  # by the merge of `filled_with_full_files`, so that an eighth is never reached
STRETCHING = {"compact_samples": 60, "row_group_rows": 10}


async def filled_with_full_files(folder: Path) -> Lake:
    """Three files of 40 series that each count as full by `STRETCHING`."""
    log, lake = await memory_log(), await open_lake(folder)
    many = [gauge("up", of=str(number)) for number in range(40)]
    for number in range(1, 4):
        await append(log, [Push([(labels, T0 + number, float(number)) for labels in many], number=number)])
        await writer_of(lake, log, compact_ratio=0).drain()
    return lake


async def test_full_files_of_a_day_become_stretches_of_ids_and_the_rows_stay(tmp_path: Path) -> None:
    lake = await filled_with_full_files(tmp_path)
    rows, before = await everything(lake), await lake.files(DAY, "acme")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LakeFileIO, "write", fails_at(2))
        with pytest.raises(LakeUnavailable):
            await compact_all(lake, **STRETCHING)
    assert await lake.files(DAY, "acme") == before
    await compact_all(lake, **STRETCHING)
    assert await everything(lake) == rows
    files = await lake.files(DAY, "acme")
    assert all(set(file.origins) == {each for one in before for each in one.origins} for file in files)
    parts = await contents(lake)
    series = [each.tobytes() for part in parts for each in part.ids]
    assert len(series) == len(set(series)) == 40
    assert all(len(part.values) <= 60 for part in parts)


@pytest.mark.slow
async def test_killed_after_any_file_of_a_merge_into_stretches_the_rows_are_the_same(tmp_path: Path) -> None:
    lake = await filled_with_full_files(tmp_path)
    rows, before = await everything(lake), {file.location for file in await lake.files(DAY, "acme")}
    order = json.dumps({"folder": str(tmp_path), "settings": STRETCHING})
    command = [sys.executable, "-m", "tests.lake.merge_process", order]
    # With half of the data stored, with all of it, and with all that a commit needs but the catalog's row.
    steps = [*(f"lake.file-stored:{at}" for at in (2, 4, FILES_STORED)), ""]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        for step in steps:
            process.stdin.write(f"{step}\n")
            process.stdin.flush()
            status = int(await asyncio.to_thread(process.stdout.readline))
            assert await everything(lake) == rows
            assert status == (-signal.SIGKILL if step else 0)
            if step:
                assert {file.location for file in await lake.files(DAY, "acme")} == before  # none half replaced
        process.stdin.close()
    files = await lake.files(DAY, "acme")
    assert not before & {file.location for file in files}
    assert (await verify(lake.places, None)).findings == []
    assert all(len(file.origins) == len(before) for file in files)


def fails_at(call: int) -> Callable[[LakeFileIO, str, bytes], None]:
    """A warehouse whose disk is full from so many files on."""
    real, calls = LakeFileIO.write, itertools.count(1)

    def write(self: LakeFileIO, location: str, content: bytes) -> None:
        if next(calls) >= call:
            raise OSError(errno.ENOSPC, "no space")
        real(self, location, content)

    return write


@costly(40)
@given(
    parts=st.lists(st.lists(keys, min_size=1, max_size=30), min_size=1, max_size=5),
    most=st.integers(1, 40),
    group=st.integers(1, 9),
)
def test_stretches_keep_every_row_and_share_no_series(
    parts: list[list[tuple[int, int, float]]], most: int, group: int
) -> None:
    files = [runs_of(part) for part in parts]
    pieces = list(stretched([write_samples(each, 0, ACME, group) for each in files], most))
    assert sorted(row for piece in pieces for row in listed(piece)) == sorted(listed(merge_runs(files)))
    series = [each.tobytes() for piece in pieces for each in piece.ids]
    assert len(series) == len(set(series))
    assert all(is_sorted(piece) for piece in pieces)
