"""Writers in processes of their own, what is pushed at them, and what the lake must hold in the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel.log import Log
from metering.lake.api import Lake
from metering.lake.series_table import read_series
from metering.lake.writer import LakeWriter
from metering.record import canonical_labels
from tests.lake.setting import T0, Push, append, gauge, stored_rows

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


def start(places: Mapping[str, Any], crash_at: str = "", **order: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lake.writer_process", json.dumps({**places, **order})],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "BYOC_CRASH_AT": crash_at},
    )


async def ended(process: subprocess.Popen[str], status: int = 0) -> dict[str, float]:
    output, _ = await asyncio.to_thread(process.communicate, timeout=120)
    assert process.returncode == status
    found: dict[str, float] = json.loads(output or "{}")
    return found


async def until_stored(lake: Lake, rows: int) -> None:
    for _ in range(300):
        if (await lake.info()).rows >= rows:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{rows} rows were not stored within a minute")


async def kill_at_every_step(places: Mapping[str, Any], log: Log, lake: Lake) -> None:
    for number, place in enumerate(PLACES, 1):
        # The gateway's clients try again what they are not sure of, and go on.
        await append(log, pushes(max(1, number - 1), 2))
        await ended(start(places, crash_at=place, mode="drain"), -signal.SIGKILL)
    await LakeWriter(lake, log).drain()
    await assert_rows(lake, len(PLACES))


async def wake_up_after_the_successor(places: Mapping[str, Any], log: Log, lake: Lake, steps: list[str]) -> None:
    for number, place in enumerate(steps):
        await append(log, pushes(2 * number + 1, 1))
        zombie = start(places, mode="drain", stop_at=place)
        _, status = await asyncio.to_thread(os.waitpid, zombie.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        await append(log, pushes(2 * number + 2, 1))
        await LakeWriter(lake, log).drain()
        before = await lake.info()
        zombie.send_signal(signal.SIGCONT)
        found = await ended(zombie)
        assert found["samples_stored"] == 0
        assert found["fenced_commits"] == 1
        assert (await lake.info()).positions == before.positions
    await assert_rows(lake, 2 * len(steps))
