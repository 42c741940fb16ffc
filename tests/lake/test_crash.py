"""Kill the writer anywhere, stop it and let its successor pass: the rows stay the same."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from pyiceberg.catalog.sql import SqlCatalog

from metering.lake.errors import Fenced
from metering.lake.flush import prepare, store
from tests.lake.crash_world import (
    COLLECTORS,
    PLACES,
    assert_rows,
    ended,
    expected,
    kill_at_every_step,
    pushes,
    start,
    until_stored,
    wake_up_after_the_successor,
)
from tests.lake.places import open_places
from tests.lake.setting import append, memory_log, open_lake, writer_of


@pytest.mark.slow
async def test_killed_at_every_step_and_replayed_the_rows_are_the_same(tmp_path: Path) -> None:
    places = {"folder": str(tmp_path)}
    async with open_places(places) as (log, lake):
        await kill_at_every_step(places, log, lake)
        assert (await lake.info()).series == len(COLLECTORS)


@pytest.mark.slow
async def test_a_stopped_writer_that_wakes_up_does_not_commit_over_its_successor(tmp_path: Path) -> None:
    places = {"folder": str(tmp_path)}
    async with open_places(places) as (log, lake):
        await wake_up_after_the_successor(places, log, lake, PLACES[:3])


@pytest.mark.slow
async def test_two_writers_race_and_one_is_killed_again_and_again(tmp_path: Path) -> None:
    places = {"folder": str(tmp_path)}
    async with open_places(places) as (log, lake):
        steady, victim = start(places, mode="run"), start(places, mode="run")
        for number in range(1, 25):
            await append(log, pushes(number, 1))
            await asyncio.sleep(0.1)
            if number % 8 == 0:
                victim.kill()
                await ended(victim, -signal.SIGKILL)
                victim = start(places, crash_at="lake.series-committed:2", mode="run")
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
    await store(made[0], one._places, one._refusals)
    await store(made[0], one._places, one._refusals)  # done already, and says so
    with pytest.raises(Fenced, match="another writer"):
        await store(made[1], two._places, two._refusals)
    await assert_rows(lake, 2)
