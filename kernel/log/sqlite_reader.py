"""A reader of the SQLite log: in a group, or alone from a point in time."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, MutableSet, Sequence
from contextlib import suppress
from typing import TypeVar

from kernel.log import LeaseLost, StoredRecord, TopicPartition
from kernel.log.groups import MAX_POLL_BYTES
from kernel.log.sqlite_group import GroupTable
from kernel.log.sqlite_schema import first_id, mapped_errors, offset_of

T = TypeVar("T")
_LOOK_SECONDS = 0.1  # appends of this process wake a reader; those of another are found by looking


class SqliteLogReader:
    """Implements `kernel.log.LogReader`; alone when it has no group table."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        ids: Mapping[TopicPartition, int],
        table: GroupTable | None,
        registry: MutableSet[SqliteLogReader],
        starts: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self._connection = connection
        self._ids = ids
        self._table = table
        self._registry = registry
        self._lock = threading.Lock()  # a cancelled poll leaves its thread at work
        self._arrival = asyncio.Event()
        self._next: dict[TopicPartition, int] = dict(starts or {})
        self._epochs: dict[TopicPartition, int] = {} if table else dict.fromkeys(ids, 0)
        self._seen_version = -1
        self._turn = 0
        self._closed = False

    async def poll(self, max_records: int, timeout_seconds: float) -> Sequence[StoredRecord]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            self._arrival.clear()
            found = await self._in_thread(lambda: self._look(max_records))
            if found:
                self._next.update({record.source: record.offset + 1 for record in found})
                return found
            remaining = deadline - loop.time()
            if remaining <= 0:
                return ()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), min(remaining, _LOOK_SECONDS))

    async def seek(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        with self._lock:
            held = {source: offset for source, offset in next_offsets.items() if source in self._epochs}
            self._next.update(held)
            self._seen_version = -1

    async def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        table = self._table
        if table is None:
            raise LeaseLost("a reader with since_ms stands alone and never commits")
        await self._in_thread(lambda: table.commit(next_offsets, self._epochs))

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._epochs)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._registry.discard(self)
        self._epochs = {}
        try:
            if self._table is not None:
                await self._in_thread(self._table.leave)
        finally:
            with self._lock:  # SQLite dies where a connection is closed in the middle of a call
                self._connection.close()

    def wake(self) -> None:
        """Called by the log after an append of this process."""
        self._arrival.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        def locked() -> T:
            with self._lock, mapped_errors():
                return work()

        return await asyncio.to_thread(locked)

    def _look(self, max_records: int) -> list[StoredRecord]:
        if self._table is not None and self._table.is_due():
            self._take_share(self._table)
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._seen_version:
            return []
        found = self._fetch(max_records)
        self._seen_version = -1 if found else version
        return found

    def _take_share(self, table: GroupTable) -> None:
        share = table.take_share()
        for source, epoch in share.epochs.items():
            if self._epochs.get(source) != epoch:
                self._next[source] = share.committed[source] or 0
        if share.epochs != self._epochs:
            self._seen_version = -1
        self._epochs = dict(share.epochs)

    def _fetch(self, max_records: int) -> list[StoredRecord]:
        sources = sorted(self._epochs)
        self._turn += 1  # each poll begins with another partition, so that none starves
        found: list[StoredRecord] = []
        room_bytes = MAX_POLL_BYTES
        for index in range(len(sources)):
            source = sources[(index + self._turn) % len(sources)]
            part = self._fetch_partition(source, max_records - len(found), room_bytes)
            found.extend(part)
            room_bytes -= sum(len(record.value) for record in part)
            if len(found) >= max_records or room_bytes <= 0:
                break
        return found

    def _fetch_partition(self, source: TopicPartition, limit: int, room_bytes: int) -> list[StoredRecord]:
        partition_id = self._ids[source]
        rows = self._connection.execute(
            "SELECT id, timestamp_ms, key, headers, value FROM records"
            " WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (first_id(partition_id, self._next[source]), first_id(partition_id + 1), limit),
        )
        found = []
        for row_id, at_ms, key, headers, value in rows:
            named = {name: text.encode("latin-1") for name, text in json.loads(headers).items()}
            found.append(StoredRecord(*source, offset_of(row_id), at_ms, key, value, named))
            room_bytes -= len(value)
            if room_bytes <= 0:
                break
        rows.close()
        return found


def read_start_at(connection: sqlite3.Connection, partition_id: int, since_ms: int) -> int:
    """The offset of the first record appended at or after that time: times never fall within a partition."""
    head = "SELECT next_offset FROM partitions WHERE id = ?"
    end: int = connection.execute(head, (partition_id,)).fetchone()[0]
    low, high = 0, end
    query = "SELECT timestamp_ms FROM records WHERE id = ?"
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(query, (first_id(partition_id, middle),)).fetchone()
        if row is None or row[0] < since_ms:  # None: retired, so older
            low = middle + 1
        else:
            high = middle
    return low
