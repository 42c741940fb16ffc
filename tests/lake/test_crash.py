"""Kill the writer anywhere, stop it and let its successor pass: the rows stay the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from pyiceberg.catalog.sql import SqlCatalog

from metering.lake.api import Lake
from metering.lake.errors import Fenced
from metering.lake.flush import prepare, store
from metering.lake.series_table import read_series
from metering.lake.writer import LakeWriter
from metering.record import canonical_labels
from tests.lake.embedded import open_embedded
from tests.lake.setting import T0, Push, append, gauge, memory_log, open_lake, stored_rows, writer_of

PLACES = [
    "lake.files-written",
    "lake.series-committed",
    "lake.horizon-stored",
    "lake.samples-committed",
    "lake.group-committed",
]
COLLECTORS = ("col-a", "col-b", "col-c")
ROOT = Path(__file__).parents[2]


def pushes(start: int, count: int) -> list[Push]:
    return [
        Push([(gauge("up", of=name), T0 + number, float(number))], number=number, collector=name)
        for number in range(start, start + count)
        for name in COLLECTORS
    ]


def expected(count: int) -> set[tuple[bytes, int, float]]:
    return {
        (canonical_labels(gauge("up", of=name)), T0 + number, float(number))
        for number in range(1, count + 1)
        for name in COLLECTORS
    }


async def assert_rows(lake: Lake, count: int) -> None:
    """Exactly these rows, in the files themselves too: not only after deduplication by the reader."""
    assert set(await stored_rows(lake)) == expected(count)
    info = await lake.info()
    assert (info.rows, info.missing_pushes) == (len(expected(count)), 0)
    assert (await asyncio.to_thread(read_series, lake.tables, "acme")).num_rows == len(COLLECTORS)


def start(folder: Path, crash_at: str = "", **order: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lake.writer_process", json.dumps({"folder": str(folder), **order})],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "BYOC_CRASH_AT": crash_at},
    )


async def ended(process: subprocess.Popen[str], status: int = 0) -> dict[str, float]:
    output, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == status
    found: dict[str, float] = json.loads(output or "{}")
    return found


@pytest.mark.slow
async def test_killed_at_every_step_and_replayed_the_rows_are_the_same(tmp_path: Path) -> None:
    async with open_embedded(tmp_path) as (log, lake):
        for number, place in enumerate(PLACES, 1):
            # The gateway's clients try again what they are not sure of, and go on.
            await append(log, pushes(max(1, number - 1), 2))
            await ended(start(tmp_path, crash_at=place, mode="drain"), -signal.SIGKILL)
        await LakeWriter(lake, log).drain()
        await assert_rows(lake, len(PLACES))
        assert (await lake.info()).series == len(COLLECTORS)


@pytest.mark.slow
async def test_a_stopped_writer_that_wakes_up_does_not_commit_over_its_successor(tmp_path: Path) -> None:
    async with open_embedded(tmp_path) as (log, lake):
        for number, place in enumerate(PLACES[:3]):
            await append(log, pushes(2 * number + 1, 1))
            zombie = start(tmp_path, mode="drain", stop_at=place)
            _, status = await asyncio.to_thread(os.waitpid, zombie.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            await append(log, pushes(2 * number + 2, 1))
            await LakeWriter(lake, log).drain()
            before = await lake.info()
            zombie.send_signal(signal.SIGCONT)
            found = await ended(zombie)
            assert (found["samples_stored"], found["fenced_commits"]) == (0, 1)
            assert (await lake.info()).positions == before.positions
        await assert_rows(lake, 6)


async def until_stored(lake: Lake, rows: int) -> None:
    for _ in range(300):
        if (await lake.info()).rows >= rows:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{rows} rows were not stored within a minute")


@pytest.mark.slow
async def test_two_writers_race_and_one_is_killed_again_and_again(tmp_path: Path) -> None:
    async with open_embedded(tmp_path) as (log, lake):
        steady, victim = start(tmp_path, mode="run"), start(tmp_path, mode="run")
        for number in range(1, 25):
            await append(log, pushes(number, 1))
            await asyncio.sleep(0.1)
            if number % 8 == 0:
                victim.kill()
                await ended(victim, -signal.SIGKILL)
                victim = start(tmp_path, crash_at="lake.series-committed:2", mode="run")
        await until_stored(lake, len(expected(24)))
        victim.kill()
        await ended(victim, -signal.SIGKILL)
        steady.terminate()
        await ended(steady)
        await assert_rows(lake, 24)


@pytest.mark.parametrize("lands", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_looked_up(
    lands: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await append(log, pushes(1, 2))
    real, calls = SqlCatalog.commit_table, []

    def lost(self: SqlCatalog, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) <= 4 and len(calls) % 2:
            if lands:
                real(self, *arguments)
            raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("connection lost"))
        return real(self, *arguments)

    monkeypatch.setattr(SqlCatalog, "commit_table", lost)
    await writer_of(lake, log).drain()
    assert len(calls) == (2 if lands else 4)
    await assert_rows(lake, 2)


async def test_of_two_flushes_of_the_same_records_the_second_is_fenced(tmp_path: Path) -> None:
    log, lake = await memory_log(), await open_lake(tmp_path)
    await append(log, pushes(1, 2))
    one, two = writer_of(lake, log), writer_of(lake, log)
    for writer in (one, two):
        reader = await writer._open()
        while not writer._has_read(await writer._ends()) or not writer._intake.pending:
            await writer._take(reader, 0.1)
        while not writer._has_read(await writer._ends()):
            await writer._take(reader, 0.1)
        await reader.close()
    made = [prepare(writer._intake, lake.tables, f"commit-{at}", 100) for at, writer in enumerate((one, two))]
    # The same records make the same files, byte for byte, so that a replay leaves no second copy.
    assert made[0].commit.locations == made[1].commit.locations
    await store(made[0], one._places)
    await store(made[0], one._places)  # done already, and says so
    with pytest.raises(Fenced, match="another writer"):
        await store(made[1], two._places)
    await assert_rows(lake, 2)
