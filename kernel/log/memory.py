"""The log in memory: the twin that tests and single-shot commands use. Nothing survives the process."""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kernel.clock import Clock, SystemClock
from kernel.log import (
    LeaseLost,
    Position,
    Record,
    StoredRecord,
    TopicNotFound,
    TopicPartition,
    partition_of,
)
from kernel.log.groups import DEFAULT_LEASE_SECONDS, DEFAULT_MAX_RECORD_BYTES, check_sizes, rebalance


@dataclass
class _Group:
    expires_ms: dict[str, int] = field(default_factory=dict)
    topics: dict[str, frozenset[str]] = field(default_factory=dict)
    owners: dict[TopicPartition, str] = field(default_factory=dict)
    epochs: dict[TopicPartition, int] = field(default_factory=dict)
    positions: dict[TopicPartition, int] = field(default_factory=dict)

    def join(self, member: str, topics: frozenset[str], expires_ms: int) -> None:
        self.topics[member] = topics
        self.expires_ms[member] = expires_ms

    def leave(self, member: str) -> None:
        self.topics.pop(member, None)
        self.expires_ms.pop(member, None)
        self.owners = {source: owner for source, owner in self.owners.items() if owner != member}

    def expire(self, now_ms: int, but: str) -> None:
        for member in [name for name, at_ms in self.expires_ms.items() if at_ms <= now_ms and name != but]:
            self.leave(member)


class MemoryLog:
    """Implements `kernel.log.Log`. Topics, positions and records stay until the object goes, `close` or not."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
        lease_seconds: float = DEFAULT_LEASE_SECONDS,
    ) -> None:
        self._clock = clock or SystemClock()
        self._max_record_bytes = max_record_bytes
        self._lease_ms = round(lease_seconds * 1000)
        self._topics: dict[str, list[list[StoredRecord]]] = {}
        self._groups: dict[str, _Group] = {}
        self._arrivals: set[asyncio.Event] = set()
        self._members = itertools.count(1)

    async def ensure_topics(self, topics: Mapping[str, int]) -> None:
        for topic, partitions in topics.items():
            self._topics.setdefault(topic, [[] for _ in range(partitions)])

    async def writer(self) -> MemoryLogWriter:
        return MemoryLogWriter(self)

    async def reader(self, group: str, topics: Sequence[str], since_ms: int | None = None) -> MemoryLogReader:
        sources = [source for topic in topics for source in self.partitions(topic)]
        if since_ms is None:
            return MemoryLogReader(self, self._groups.setdefault(group, _Group()), sources)
        starts = {
            source: bisect_left(self.stored(source), since_ms, key=lambda record: record.timestamp_ms)
            for source in sources
        }
        return MemoryLogReader(self, None, sources, starts)

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        return {source: len(self.stored(source)) for source in self.partitions(topic)}

    async def close(self) -> None:
        self._arrivals.clear()

    @property
    def max_record_bytes(self) -> int:
        return self._max_record_bytes

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Every partition of a topic. Raises TopicNotFound."""
        if topic not in self._topics:
            raise TopicNotFound(f"the log has no topic {topic!r}: call ensure_topics first")
        return [TopicPartition(topic, number) for number in range(len(self._topics[topic]))]

    def stored(self, source: TopicPartition) -> list[StoredRecord]:
        """The records of a partition; index is offset."""
        return self._topics[source.topic][source.partition]

    def add(self, topic: str, records: Sequence[Record]) -> list[Position]:
        """Append at once and wake the readers."""
        count = len(self.partitions(topic))
        check_sizes(records, self._max_record_bytes)
        positions = [self._add_one(TopicPartition(topic, partition_of(r.key, count)), r) for r in records]
        for arrival in self._arrivals:
            arrival.set()
        return positions

    def _add_one(self, source: TopicPartition, record: Record) -> Position:
        partition = self.stored(source)
        # A wall clock that steps back must not break the search by time.
        at_ms = max(self._clock.now_ms(), partition[-1].timestamp_ms if partition else 0)
        headers = dict(record.headers)
        partition.append(StoredRecord(*source, len(partition), at_ms, record.key, record.value, headers))
        return Position(*source, len(partition) - 1)

    def new_member(self, arrival: asyncio.Event) -> str:
        self._arrivals.add(arrival)
        return f"member-{next(self._members):06}"

    def remove_member(self, arrival: asyncio.Event) -> None:
        self._arrivals.discard(arrival)

    def take_share(self, group: _Group, member: str, topics: frozenset[str]) -> dict[TopicPartition, int]:
        """Renew the membership and rebalance; the partitions held, with the epoch of each lease."""
        now_ms = self._clock.now_ms()
        group.expire(now_ms, but=member)
        group.join(member, topics, now_ms + self._lease_ms)
        sources = [source for topic in topics for source in self.partitions(topic)]
        step = rebalance(member, group.topics, sources, group.owners)
        for source in step.release:
            del group.owners[source]
        for source in step.acquire:
            group.owners[source] = member
            group.epochs[source] = group.epochs.get(source, 0) + 1
        return {source: group.epochs[source] for source, owner in group.owners.items() if owner == member}


class MemoryLogWriter:
    """Implements `kernel.log.LogWriter`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    @property
    def max_record_bytes(self) -> int:
        return self._log.max_record_bytes

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        return self._log.add(topic, records)

    async def close(self) -> None:
        pass


class MemoryLogReader:
    """Implements `kernel.log.LogReader`; alone when it has no group."""

    def __init__(
        self,
        log: MemoryLog,
        group: _Group | None,
        sources: Sequence[TopicPartition],
        starts: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self._log = log
        self._group = group
        self._topics = frozenset(source.topic for source in sources)
        self._arrival = asyncio.Event()
        self._member = log.new_member(self._arrival)
        self._next: dict[TopicPartition, int] = dict(starts or {})
        self._held: dict[TopicPartition, int] = dict.fromkeys(sources, 0) if group is None else {}
        self._turn = 0

    async def poll(self, max_records: int, timeout_seconds: float) -> Sequence[StoredRecord]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            self._arrival.clear()
            self._refresh()
            if found := self._take(max_records):
                return found
            remaining = deadline - loop.time()
            if remaining <= 0:
                await asyncio.sleep(0)
                return ()
            # Woken by an append; looks again now and then for a lease that another member gave back.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrival.wait(), min(remaining, 0.05))

    def _refresh(self) -> None:
        if self._group is None:
            return
        held = self._log.take_share(self._group, self._member, self._topics)
        for source, epoch in held.items():
            if self._held.get(source) != epoch:
                self._next[source] = self._group.positions.get(source, 0)
        self._held = held

    def _take(self, max_records: int) -> list[StoredRecord]:
        sources = sorted(self._held)
        self._turn += 1
        found: list[StoredRecord] = []
        for index in range(len(sources)):
            source = sources[(index + self._turn) % len(sources)]
            start = self._next[source]
            part = self._log.stored(source)[start : start + max_records - len(found)]
            self._next[source] = start + len(part)
            found.extend(part)
        return found

    async def seek(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._next.update({source: offset for source, offset in next_offsets.items() if source in self._held})

    async def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        group = self._group
        if group is None:
            raise LeaseLost("a reader with since_ms stands alone and never commits")
        for source in next_offsets:
            mine = group.owners.get(source) == self._member and group.epochs[source] == self._held.get(source)
            if not mine:
                raise LeaseLost(f"{source.topic}/{source.partition} went to another reader: drop this batch")
        group.positions.update(next_offsets)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._held)

    async def close(self) -> None:
        self._log.remove_member(self._arrival)
        if self._group is not None:
            self._group.leave(self._member)
        self._held = {}
