"""When a commit is made: later if that makes many files, soon if an hour waits for it; whoever dies meanwhile."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.clock import VirtualClock
from kernel.ids import OrganizationId
from kernel.window import HOUR_MS
from metering.lake.pace import HourEnds, commit_after_seconds
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import Lane
from tests.lake.crash_world import ended, start
from tests.lake.places import open_places
from tests.lake.setting import ACME, DAY, T0, Push, append, gauge, memory_log, open_lake, rows_of

DEFAULT = LakeSettings()


@pytest.mark.parametrize(
    ("files", "ends_an_hour", "seconds"),
    [
        (0, False, 10),
        (1, False, 10),
        (10, False, 10),
        (11, False, 11),
        (100, False, 100),
        (100, True, 10),
        (300, False, 300),
        (301, False, 300),
        (100_000, False, 300),
        (100_000, True, 10),
    ],
)
def test_a_file_a_second_up_to_the_bound(files: int, ends_an_hour: bool, seconds: float) -> None:
    assert commit_after_seconds(files, DEFAULT, ends_an_hour=ends_an_hour) == seconds


@given(st.floats(0.01, 1000), st.integers(1, 1000), st.floats(0.01, 1000), st.integers(0, 10_000), st.booleans())
def test_it_never_waits_less_than_the_least_nor_more_than_the_bound(
    least: float, files_at_least: int, most: float, files: int, is_end: bool
) -> None:
    settings = LakeSettings(commit_seconds=least, commit_files=files_at_least, commit_seconds_most=most)
    found = commit_after_seconds(files, settings, ends_an_hour=is_end)
    assert least <= found <= max(least, most)
    assert found <= commit_after_seconds(files + 1, settings, ends_an_hour=is_end)


def test_an_hour_ends_once_for_each_billing_lane() -> None:
    ends = HourEnds()
    push = Push([], complete_through_ms=T0)
    others = (
        replace(push, lane=Lane.BULK),
        replace(push, complete_through_ms=None),
        replace(push, complete_through_ms=T0 - 1),
    )
    assert ends.is_one(push.header())
    assert not any(ends.is_one(other.header()) for other in (push, *others))
    assert not ends.is_one(replace(push, complete_through_ms=T0 + HOUR_MS - 1).header())
    assert ends.is_one(replace(push, complete_through_ms=T0 + HOUR_MS).header())
    assert ends.is_one(replace(push, collector="col-b").header())
    ends.forget()
    assert ends.is_one(push.header())


def of_projects(count: int, number: int, through_ms: int = T0) -> list[Push]:
    return [
        Push(
            [(gauge("up"), T0 + number, float(number))],
            number=number,
            tenant=replace(ACME, organization=OrganizationId(f"org-{at}")),
            complete_through_ms=through_ms,
        )
        for at in range(count)
    ]


async def waited(writer: LakeWriter, clock: VirtualClock, most: int) -> int:
    """Seconds until a commit is due."""
    for second in range(most):
        if writer._is_due():
            return second
        await clock.advance(1)
    raise AssertionError(f"not due in {most} seconds")


async def test_the_writer_waits_for_files_and_not_for_the_end_of_an_hour(tmp_path: Path) -> None:
    clock, log, lake = VirtualClock(), await memory_log(), await open_lake(tmp_path)
    writer = LakeWriter(lake, log, LakeSettings(poll_records=1000), clock)
    reader = await writer._open()
    for number, (projects, through_ms, seconds) in enumerate(
        [(40, T0, 10), (40, T0 + 1, 40), (5, T0 + 2, 10), (40, T0 + HOUR_MS, 10), (40, T0 + HOUR_MS + 1, 40)],
        start=1,
    ):
        await append(log, of_projects(projects, number, through_ms))
        while sum(each.samples for each in writer._intake.pending.values()) < projects:
            await writer._turn(reader)
        assert await waited(writer, clock, 400) == seconds, number
        await writer._turn(reader)
        assert all(pending.is_empty for pending in writer._intake.pending.values()), "it was committed"
    assert (await lake.info()).rows == 4 * 40 + 5
    await reader.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["lake.admitted:2", "lake.files-written", "lake.horizon-stored", "lake.samples-committed"]
)
async def test_killed_while_it_waits_and_at_each_step_every_row_is_there_once(tmp_path: Path, place: str) -> None:
    """A writer that waits longer has more to read again when it dies."""
    places = {"folder": str(tmp_path)}
    settings = {"commit_seconds": 0.2, "commit_files": 2, "commit_seconds_most": 2.0, "poll_records": 8}
    async with open_places(places) as (log, lake):
        for number in (1, 2):
            await append(log, of_projects(12, number, T0 + number))
            await ended(start(places, crash_at=place, mode="run", settings=settings), -signal.SIGKILL)
        await ended(start(places, mode="drain", settings=settings))
        info = await lake.info()
        assert (info.rows, info.missing_pushes) == (24, 0), "in the files themselves, not only for who reads them"
        promised = [state.complete_through_ms() for state in (await lake.horizon()).sources.values()]
        assert promised == [T0 + 2] * 12
        for at in range(12):
            rows = rows_of(await lake.scan(f"org-{at}", DAY))
            assert [(at_ms, value) for _, at_ms, value in rows] == [(T0 + 1, 1.0), (T0 + 2, 2.0)]
