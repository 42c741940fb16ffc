"""One log of each adapter, with what the contract needs beside the port: another process, a restart, a lapse."""

import asyncio
import secrets
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path

from kernel.clock import SystemClock, VirtualClock
from kernel.log import Log, LogReader, LogUnavailable, LogWriter, Record, StoredRecord, TopicPartition
from kernel.log.kafka import KafkaLog
from kernel.log.kafka_settings import KafkaSettings
from kernel.log.memory import MemoryLog
from kernel.log.sqlite import SqliteLog
from tests.services.kafka import KafkaServer

PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


class LogRig(ABC):
    """`log` is the first process's; topics are new for each test, as a broker is shared."""

    log: Log

    def __init__(self) -> None:
        self.topic = f"t-{secrets.token_hex(4)}"
        self.group = f"g-{secrets.token_hex(4)}"

    @abstractmethod
    def another(self) -> Log:
        """The same storage as another process opens it."""

    @abstractmethod
    async def restart(self) -> None:
        """Stop the storage hard and start it again. `log` may be another object after it."""

    @abstractmethod
    async def lapse(self) -> None:
        """Let the leases of readers that do not poll run out."""

    @abstractmethod
    async def crash_between_store_and_commit(self) -> None:
        """A reader of the group reads four records, stores them, commits the first two, and dies."""

    @abstractmethod
    async def tick(self) -> None:
        """Let the log's clock move on by some milliseconds."""

    async def close(self) -> None:
        await self.log.close()


class MemoryRig(LogRig):
    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.log = MemoryLog(self.clock)

    def another(self) -> Log:
        return self.log

    async def restart(self) -> None:
        await self.log.close()

    async def lapse(self) -> None:
        self.clock.step_wall(31)

    async def crash_between_store_and_commit(self) -> None:
        reader = await self.log.reader(self.group, [self.topic])
        await read(reader, 4)
        await reader.commit({TopicPartition(self.topic, 0): 2})
        await self.lapse()

    async def tick(self) -> None:
        self.clock.step_wall(0.005)


class SqliteRig(LogRig):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self._path = folder / "log.sqlite"
        self._others: list[Log] = []
        self.log = SqliteLog(self._path, self.clock)

    def another(self) -> Log:
        log = SqliteLog(self._path, self.clock)
        self._others.append(log)
        return log

    async def restart(self) -> None:
        old, self.log = self.log, SqliteLog(self._path, self.clock)
        await old.close()

    async def lapse(self) -> None:
        self.clock.step_wall(31)

    async def crash_between_store_and_commit(self) -> None:
        await kill_crasher("sqlite", str(self._path), self.group, self.topic)

    async def tick(self) -> None:
        self.clock.step_wall(0.005)

    async def close(self) -> None:
        for log in [self.log, *self._others]:
            await log.close()


class KafkaRig(LogRig):
    def __init__(self, server: KafkaServer) -> None:
        super().__init__()
        self._server = server
        self._settings = KafkaSettings(
            bootstrap_servers=server.bootstrap_servers, session_timeout_seconds=6, revoke_grace_seconds=0.3
        )
        self._others: list[Log] = []
        self.log = self._open()

    def _open(self) -> Log:
        return KafkaLog(self._server.bootstrap_servers, self._settings)

    def another(self) -> Log:
        log = self._open()
        self._others.append(log)
        return log

    async def restart(self) -> None:
        await asyncio.to_thread(self._server.process.kill)
        await asyncio.to_thread(self._server.process.start)

    async def lapse(self) -> None:
        """Nothing: a member that joins makes the broker take the partitions away after the grace."""

    async def crash_between_store_and_commit(self) -> None:
        await kill_crasher("kafka", self._server.bootstrap_servers, self.group, self.topic)

    async def tick(self) -> None:
        await SystemClock().sleep(0.02)  # the broker's clock can't be moved

    async def close(self) -> None:
        for log in [*self._others, self.log]:
            await log.close()


def record(key: str, value: str | bytes, **headers: bytes) -> Record:
    return Record(key.encode(), value.encode() if isinstance(value, str) else value, headers)


async def kill_crasher(*arguments: str) -> None:
    """Start `log_crasher`, and send it SIGKILL when it has committed."""
    command = [sys.executable, "-m", "tests.contracts.log_crasher", *arguments]
    crasher = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)
    assert crasher.stdout is not None
    try:
        assert (await asyncio.wait_for(crasher.stdout.readline(), 60)).strip() == b"4"
    finally:
        crasher.kill()
        await crasher.stdout.read()
        await crasher.wait()


async def read(reader: LogReader, count: int) -> list[StoredRecord]:
    """At least `count` records, however many polls that takes; fewer when they do not come."""
    found: list[StoredRecord] = []
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while len(found) < count and asyncio.get_running_loop().time() < deadline:
        found += await reader.poll(1000, 0.2)
    return found


async def read_rest(reader: LogReader, wait_seconds: float = 0.5) -> list[StoredRecord]:
    """What comes until a poll comes back empty after so long, twice."""
    found: list[StoredRecord] = []
    for _ in range(2):
        while more := await reader.poll(1000, wait_seconds):
            found += more
    return found


async def hold(reader: LogReader, partitions: int) -> None:
    """Poll until the reader holds that many partitions; what it reads meanwhile is not committed."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while len(reader.assignment()) != partitions and asyncio.get_running_loop().time() < deadline:
        await reader.poll(1, 0.05)
    assert len(reader.assignment()) == partitions


async def append_surely(rig: LogRig, writer: LogWriter, records: Sequence[Record]) -> LogWriter:
    """Append again while the outcome is unknown, as a sender does; the writer that did it."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        try:
            await writer.append(rig.topic, records)
        except LogUnavailable:
            await asyncio.sleep(0.01)
            writer = await rig.log.writer()
        else:
            return writer
    raise AssertionError("the log did not come back")
