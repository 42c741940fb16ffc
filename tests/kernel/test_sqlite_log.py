"""What only the SQLite log must do: several processes, `kill -9`, cancelled appends, a broken file, retention."""

import asyncio
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import pytest

from kernel.clock import SystemClock, VirtualClock
from kernel.errors import Stop
from kernel.log import LogCorrupt, LogUnavailable, Record, TopicPartition
from kernel.log.sqlite import SqliteLog
from tests.contracts.log_rigs import read, read_rest, record

WORKER = "tests.kernel.log_worker"
ROOT = Path(__file__).parents[2]
P0 = TopicPartition("t", 0)


async def start_worker(path: Path, *arguments: object) -> Process:
    command = [sys.executable, "-m", WORKER, str(path), *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)


async def line_of(worker: Process) -> bytes:
    assert worker.stdout is not None
    return (await asyncio.wait_for(worker.stdout.readline(), 60)).strip()


async def end(worker: Process) -> None:
    with suppress(ProcessLookupError):
        worker.kill()
    assert worker.stdout is not None
    await worker.stdout.read()
    await worker.wait()


@pytest.mark.slow
async def test_appends_of_two_processes_interleave_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, SystemClock())
    await log.ensure_topics({"t": 1})
    worker = await start_worker(path, "append", 60, "w")
    await line_of(worker)
    writer = await log.writer()
    for number in range(60):
        await writer.append("t", [record("m", f"m{number}")])
    assert await worker.wait() == 0
    await end(worker)
    found = await read_rest(await log.reader("g", ["t"]), 0.05)
    assert [stored.offset for stored in found] == list(range(120))
    for key in ("w", "m"):
        assert [stored.value.decode() for stored in found if stored.key == key.encode()] == [
            f"{key}{number}" for number in range(60)
        ]
    await log.close()


@pytest.mark.slow
async def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    log = SqliteLog(path, SystemClock())
    await log.ensure_topics({"t": 1})
    worker = await start_worker(path, "append", 100_000, "w")
    for _ in range(20):
        last = int(await line_of(worker))
    await end(worker)
    values = [stored.value.decode() for stored in await read_rest(await log.reader("g", ["t"]), 0.05)]
    assert values == [f"w{number}" for number in range(len(values))]
    assert len(values) > last
    await log.close()


async def test_a_killed_reader_gives_its_partitions_up_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    clock = VirtualClock(SystemClock().now())  # stands still: the lease does not run out
    log = SqliteLog(path, clock)
    await log.ensure_topics({"t": 2})
    await (await log.writer()).append("t", [record(f"k{i}", "v") for i in range(10)])
    worker = await start_worker(path, "hold", "g")
    assert await line_of(worker) == b"10"
    await end(worker)
    successor = await log.reader("g", ["t"])
    assert len(await successor.poll(100, 0)) == 10
    assert list((tmp_path / "log.sqlite.readers").iterdir()) == [
        tmp_path / "log.sqlite.readers" / f"{log._mark.name}.alive"
    ]
    await log.close()


async def test_a_lease_that_came_back_does_not_let_the_old_batch_commit(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = SqliteLog(tmp_path / "log.sqlite", clock)
    await log.ensure_topics({"t": 1})
    await (await log.writer()).append("t", [record("k", f"{i}") for i in range(6)])
    slow = await log.reader("g", ["t"])
    await read(slow, 6)
    clock.step_wall(31)
    other = await log.reader("g", ["t"])
    await read(other, 6)
    await other.commit({P0: 4})
    await other.close()
    with pytest.raises(Stop):
        await slow.commit({P0: 6})
    assert [stored.offset for stored in await read(slow, 2)] == [4, 5]
    await slow.commit({P0: 6})
    await log.close()


async def test_a_cancelled_append_holds_up_none(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", SystemClock())
    await log.ensure_topics({"t": 1})
    writer = await log.writer()
    calls = [asyncio.create_task(writer.append("t", [record("k", f"{i}")])) for i in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, list) for outcome in outcomes) == 10
    values = {stored.value for stored in await read_rest(await log.reader("g", ["t"]), 0.05)}
    assert {b"%d" % i for i in range(1, 20, 2)} <= values
    await log.close()


async def test_pending_appends_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.log.sqlite.MAX_PENDING_BYTES", 50_000)
    log = SqliteLog(tmp_path / "log.sqlite", SystemClock())
    await log.ensure_topics({"t": 1})
    writer = await log.writer()
    calls = [asyncio.create_task(writer.append("t", [record("k", b"%03d" % i + b"x" * 20_000)])) for i in range(40)]
    most = 0
    while not all(call.done() for call in calls):
        most = max(most, log._pending_bytes)
        await asyncio.sleep(0)
    assert 0 < most <= 50_000 + 20_100
    values = [stored.value[:3] for stored in await read(await log.reader("g", ["t"]), 40)]
    assert values == [b"%03d" % i for i in range(40)]
    await log.close()


async def test_a_closed_log_says_so(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", SystemClock())
    await log.ensure_topics({"t": 1})
    writer = await log.writer()
    await log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await writer.append("t", [Record(b"k", b"v", {})])


def test_a_file_that_is_no_log_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(LogCorrupt, match="restore"):
        SqliteLog(path, SystemClock())


async def test_old_records_leave_when_every_group_has_passed_them(tmp_path: Path) -> None:
    clock = VirtualClock()
    log = SqliteLog(tmp_path / "log.sqlite", clock, retention_seconds=3600)
    await log.ensure_topics({"t": 1})
    writer = await log.writer()
    await writer.append("t", [record("k", f"old{i}") for i in range(10)])
    reader = await log.reader("g", ["t"])
    await read(reader, 10)
    await reader.commit({P0: 7})
    await reader.close()
    clock.step_wall(3601)
    await writer.append("t", [record("k", "new")])
    clock.step_wall(61)
    await writer.append("t", [record("k", "newer")])

    alone = await log.reader("any", ["t"], since_ms=0)
    assert [stored.offset for stored in await read_rest(alone, 0.05)] == [7, 8, 9, 10, 11]
    lagging = await log.reader("g", ["t"])
    assert [stored.offset for stored in await read_rest(lagging, 0.05)] == [7, 8, 9, 10, 11]
    since = await log.reader("any", ["t"], since_ms=clock.now_ms() - 61_000)
    assert [stored.value for stored in await read_rest(since, 0.05)] == [b"new", b"newer"]
    await log.close()


async def test_a_reader_is_closed_when_a_cancelled_poll_has_left_the_connection(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite", SystemClock())
    await log.ensure_topics({"t": 1})
    reader = await log.reader("g", ["t"], since_ms=0)
    begun, asked = threading.Event(), []

    def slow_call() -> None:  # what the thread of a cancelled poll does
        with reader._lock:
            begun.set()
            time.sleep(0.05)
            asked.append(reader._connection.execute("SELECT 1").fetchone())

    thread = threading.Thread(target=slow_call)
    thread.start()
    begun.wait()
    await reader.close()
    thread.join()
    assert asked == [(1,)]
    await log.close()
