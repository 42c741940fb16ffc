"""The log port: append-only records in topics of ordered partitions, read by groups.

Adapters: `kernel.log.memory`, `kernel.log.sqlite`, `kernel.log.kafka`. One contract suite runs on all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from kernel.errors import NotFound, Refuse, Retry, Stop


class LogUnavailable(Retry):
    """The log can't be reached or does not answer in time. Whether the append happened is unknown."""


class RecordTooLarge(Refuse):
    """A record is over the log's limit. Nothing of the call was appended."""


class TopicNotFound(NotFound):
    """The log has no such topic: `ensure_topics` was not called, or names another."""


class LogCorrupt(Stop):
    """What is stored can't be read: do not go on, restore it."""


class LeaseLost(Stop):
    """Another reader of the group holds the partition: what was read must not be committed."""


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record stands. The *next* position of a partition is the last offset plus one."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is appended. Records with the same key go to the same partition, in the order of the calls."""

    key: bytes
    value: bytes
    headers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What is read. `timestamp_ms` is the time of the append, by the log's clock."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]

    @property
    def source(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class LogWriter(Protocol):
    """Durable appends."""

    @property
    def max_record_bytes(self) -> int:
        """The largest value (with its key and headers) that one record may have."""

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        """Append in order; return when all are durable (fsynced, or acknowledged by all replicas).

        Raises RecordTooLarge and TopicNotFound before anything is appended; LogUnavailable when the outcome is
        unknown: the caller may append the same records again, so every consumer must be idempotent by what they
        hold. Cancellation leaves the outcome unknown too.
        """

    async def close(self) -> None:
        """Flush and release. Idempotent."""


class LogReader(Protocol):
    """One member of a group. Not for concurrent use.

    Delivery is ordered per partition, at least once, and in batches: after a crash or a rebalance the next
    owner starts at the committed position, so what was read but not committed is read again. Who gathers several
    polls before a commit: an offset that falls back says that the partition was taken away and given back, and
    what was gathered from it must be dropped.
    """

    async def poll(self, max_records: int, timeout_seconds: float) -> Sequence[StoredRecord]:
        """The next records of the partitions held; empty after `timeout_seconds` without any.

        The timeout is real time, as the arrival of records is; zero only looks. Raises LogUnavailable.
        """

    async def seek(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Read on from there. Partitions not held are ignored."""

    async def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Store the group's next positions, durably. Raises LeaseLost if any partition is no longer held."""

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions held now. Changes only inside `poll`."""

    async def close(self) -> None:
        """Give the partitions back. Idempotent."""


class Log(Protocol):
    """A log with its topics."""

    async def ensure_topics(self, topics: Mapping[str, int]) -> None:
        """Create what does not exist: topic -> partitions. Never changes an existing topic."""

    async def writer(self) -> LogWriter:
        """A new writer, ready."""

    async def reader(self, group: str, topics: Sequence[str], since_ms: int | None = None) -> LogReader:
        """A new member of `group`. Partitions without a committed position are read from the beginning.

        Raises TopicNotFound, LogUnavailable.

        With `since_ms` the reader stands alone instead: it holds every partition, starts at the first record
        appended at or after that time, and never commits (commit raises LeaseLost).
        """

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        """The next offset that will be given, per partition. With committed positions this is the lag."""

    async def close(self) -> None:
        """Release everything. Idempotent."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, the same in every adapter: CRC-32 modulo partitions.

    Our own choice, so that a key stays in its partition when a log is moved from one adapter to another.
    """
    import zlib

    return zlib.crc32(key) % partitions
