"""The log in one SQLite file: durable, ordered, shared by the processes of one machine.

Concurrent appends go into one transaction (a group commit): while one is being fsynced the next gathers. Readers
of a group hold leases; see `kernel.log.sqlite_group`.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kernel.clock import Clock
from kernel.log import LogUnavailable, Position, Record, TopicNotFound, TopicPartition, partition_of
from kernel.log.groups import DEFAULT_LEASE_SECONDS, DEFAULT_MAX_RECORD_BYTES, check_sizes
from kernel.log.liveness import ProcessMark
from kernel.log.sqlite_group import GroupTable
from kernel.log.sqlite_reader import SqliteLogReader, read_start_at
from kernel.log.sqlite_retention import DEFAULT_RETENTION_SECONDS, retire
from kernel.log.sqlite_schema import connect, create_schema, first_id, mapped_errors, transaction

MAX_PENDING_BYTES = 64 * 1024 * 1024  # appends beyond this wait
_MAX_COMMIT_RECORDS = 1000
_RETIRE_EVERY_MS = 60_000


@dataclass
class _Append:
    topic: str
    records: Sequence[Record]
    size_bytes: int
    done: asyncio.Future[list[Position]]


class SqliteLog:
    """Implements `kernel.log.Log`. One object per process and file is enough; several are safe."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
        retention_seconds: float = DEFAULT_RETENTION_SECONDS,
    ) -> None:
        create_schema(path)
        self.path = path
        self.max_record_bytes = max_record_bytes
        self._clock = clock
        self._lease_ms = round(lease_seconds * 1000)
        self._retention_ms = round(retention_seconds * 1000)
        self._retire_at_ms = 0
        self._mark = ProcessMark(path.with_name(path.name + ".readers"))
        self._connection = connect(path)
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "log-store")
        self._readers: set[SqliteLogReader] = set()
        self._pending: list[_Append] = []
        self._pending_bytes = 0
        self._admission = asyncio.Lock()
        self._room = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def ensure_topics(self, topics: Mapping[str, int]) -> None:
        await asyncio.to_thread(self._ensure_topics, dict(topics))

    async def writer(self) -> SqliteLogWriter:
        return SqliteLogWriter(self)

    async def reader(self, group: str, topics: Sequence[str], since_ms: int | None = None) -> SqliteLogReader:
        return await asyncio.to_thread(self._open_reader, group, list(topics), since_ms)

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        return await asyncio.to_thread(self._end_offsets, topic)

    async def append(self, topic: str, records: Sequence[Record]) -> list[Position]:
        """What every writer of this log calls: `LogWriter.append`."""
        size_bytes = check_sizes(records, self.max_record_bytes)
        if not records:
            return []
        async with self._admission:  # fair, so that records of one key keep the order of the calls
            while self._pending_bytes > MAX_PENDING_BYTES:
                self._room.clear()
                await self._room.wait()
            if self._closed:
                raise LogUnavailable("the log is closed")
            loop = asyncio.get_running_loop()
            append = _Append(topic, records, size_bytes, loop.create_future())
            self._pending.append(append)
            self._pending_bytes += append.size_bytes
            if self._flusher is None or self._flusher.done():
                self._flusher = asyncio.create_task(self._flush(), name="log.flush")
        return await append.done

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        self._thread.shutdown(wait=False)
        for reader in list(self._readers):
            await reader.close()
        with self._lock:
            self._connection.close()
        self._mark.close()

    async def _flush(self) -> None:
        while self._pending:
            batch = self._next_batch()
            try:
                outcomes = await asyncio.wrap_future(self._thread.submit(self._store, batch))
            except Exception as error:
                outcomes = [error] * len(batch)
            self._pending_bytes -= sum(append.size_bytes for append in batch)
            self._room.set()
            for append, outcome in zip(batch, outcomes, strict=True):
                if append.done.done():
                    continue  # its caller was cancelled
                if isinstance(outcome, Exception):
                    append.done.set_exception(outcome)
                else:
                    append.done.set_result(outcome)
            for reader in self._readers:
                reader.wake()

    def _next_batch(self) -> list[_Append]:
        count = records = 0
        while count < len(self._pending) and records < _MAX_COMMIT_RECORDS:
            records += len(self._pending[count].records)
            count += 1
        batch, self._pending = self._pending[:count], self._pending[count:]
        return batch

    def _store(self, batch: Sequence[_Append]) -> list[list[Position] | Exception]:
        with self._lock, mapped_errors(), transaction(self._connection):
            outcomes = [self._store_one(append) for append in batch]
            now_ms = self._clock.now_ms()
            if now_ms >= self._retire_at_ms and not retire(self._connection, now_ms - self._retention_ms):
                self._retire_at_ms = now_ms + _RETIRE_EVERY_MS
            return outcomes

    def _store_one(self, append: _Append) -> list[Position] | Exception:
        heads = self._partitions(append.topic)
        if not heads:
            return TopicNotFound(f"the log has no topic {append.topic!r}: call ensure_topics first")
        now_ms = self._clock.now_ms()
        rows, positions = [], []
        touched: set[int] = set()
        for record in append.records:
            partition = partition_of(record.key, len(heads))
            partition_id, offset, last_ms = heads[partition]
            # A wall clock that steps back must not break the search by time.
            at_ms = max(now_ms, last_ms)
            headers = json.dumps({name: value.decode("latin-1") for name, value in record.headers.items()})
            rows.append((first_id(partition_id, offset), at_ms, record.key, headers, record.value))
            positions.append(Position(append.topic, partition, offset))
            heads[partition] = partition_id, offset + 1, at_ms
            touched.add(partition)
        self._connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
        self._connection.executemany(
            "UPDATE partitions SET next_offset = ?2, last_ms = ?3 WHERE id = ?1", [heads[i] for i in touched]
        )
        return positions

    def _partitions(self, topic: str) -> list[tuple[int, int, int]]:
        query = "SELECT id, next_offset, last_ms FROM partitions WHERE topic = ? ORDER BY partition"
        return self._connection.execute(query, (topic,)).fetchall()

    def _ensure_topics(self, topics: Mapping[str, int]) -> None:
        with self._lock, mapped_errors(), transaction(self._connection):
            for topic, partitions in topics.items():
                if self._connection.execute("INSERT OR IGNORE INTO topics VALUES (?)", (topic,)).rowcount:
                    self._connection.executemany(
                        "INSERT INTO partitions (topic, partition) VALUES (?, ?)",
                        [(topic, number) for number in range(partitions)],
                    )

    def _end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, i): head[1] for i, head in enumerate(self._heads(topic))}

    def _heads(self, topic: str) -> list[tuple[int, int, int]]:
        with self._lock, mapped_errors():
            heads = self._partitions(topic)
        if not heads:
            raise TopicNotFound(f"the log has no topic {topic!r}: call ensure_topics first")
        return heads

    def _open_reader(self, group: str, topics: Sequence[str], since_ms: int | None) -> SqliteLogReader:
        ids = {
            TopicPartition(topic, number): head[0]
            for topic in topics
            for number, head in enumerate(self._heads(topic))
        }
        connection = connect(self.path)
        if since_ms is None:
            table = GroupTable(connection, group, ids, self._mark, self._clock, self._lease_ms)
            reader = SqliteLogReader(connection, ids, table, self._readers)
        else:
            starts = {source: read_start_at(connection, ids[source], since_ms) for source in ids}
            reader = SqliteLogReader(connection, ids, None, self._readers, starts)
        self._readers.add(reader)
        return reader


class SqliteLogWriter:
    """Implements `kernel.log.LogWriter`; all writers of a log share its group commit."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    @property
    def max_record_bytes(self) -> int:
        return self._log.max_record_bytes

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        return await self._log.append(topic, records)

    async def close(self) -> None:
        pass
