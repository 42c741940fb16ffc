"""A real process, killed by SIGKILL at each step between a sample and the record of its page."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.clock import SystemClock
from kernel.database import Database
from kernel.log.sqlite import SqliteLog
from metering.record import LIVE_TOPIC, BatchHeader, Lane, encode_record, make_batch
from tests.alerts.receiver import Receiver
from tests.alerts.world import COLLECTOR, ORG_A, rules

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0
Child = subprocess.Popen[bytes]


@contextmanager
def ruler(database: Database, folder: Path, receiver: Receiver, crash_at: str = "") -> Iterator[Child]:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.alerts.ruler_process", url, str(folder), receiver.url]
    environment = {**os.environ, "BYOC_CRASH_AT": crash_at}
    with (folder / "ruler.log").open("ab") as output:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def until(condition: Callable[[], bool], folder: Path) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert clock.monotonic() < deadline, (folder / "ruler.log").read_text()[-3000:]
        await asyncio.sleep(0.02)


async def append(log: SqliteLog, value: float) -> None:
    now_ms = SystemClock().now_ms()
    series = (("__name__", "temperature"), ("organization", "org-a"), ("room", "attic"))
    header = BatchHeader(ORG_A, COLLECTOR, Lane.BILLING, now_ms, "", complete_through_ms=now_ms)
    writer = await log.writer()
    await writer.append(LIVE_TOPIC, [encode_record(header, make_batch([(series, now_ms, value)]))])
    await writer.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "early", "sent"),
    [
        ("alerts.tick_before_commit", {0}, {1}),
        ("alerts.ticked", {0, 1}, {1, 2}),  # the sender looks by itself: it may be faster than the kill
        ("alerts.posting", {0}, {1}),
        ("alerts.posted", {1}, {2}),
    ],
)
async def test_a_page_outlives_the_process(
    database: Database, tmp_path: Path, receiver: Receiver, place: str, early: set[int], sent: set[int]
) -> None:
    """Killed before the POST, the page is sent once by the next process; after it, with the same id again."""
    (tmp_path / "rules.yaml").write_text(rules())
    log = SqliteLog(tmp_path / "log.sqlite", SystemClock())
    await log.ensure_topics({LIVE_TOPIC: 2})
    await append(log, 35)
    with ruler(database, tmp_path, receiver, place) as dying:
        await until(lambda: dying.poll() is not None, tmp_path)
        assert dying.returncode == -signal.SIGKILL
    assert len(receiver.taken) in early
    with ruler(database, tmp_path, receiver) as living:
        await until(lambda: len(receiver.taken) >= min(sent), tmp_path)
        await append(log, 20)
        await until(lambda: receiver.taken[-1].statuses == [("resolved", "Hot")], tmp_path)
        assert living.poll() is None
    *firing, resolved = receiver.taken
    assert len(firing) in sent
    assert len({(request.webhook_id, request.raw) for request in firing}) == 1
    assert resolved.statuses == [("resolved", "Hot")]
    assert resolved.webhook_id != firing[0].webhook_id
    await log.close()
