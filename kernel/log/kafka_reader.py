"""A reader of Kafka: a member of a consumer group, or alone from a point in time.

aiokafka rebalances in the background. The reader answers a revocation by waiting a bounded time for the batch in
hand to be committed; a partition that goes while records of it are in hand is lost, and their commit refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kernel.errors import truncate
from kernel.log import LeaseLost, LogUnavailable, StoredRecord, TopicPartition
from kernel.log.kafka_settings import KafkaSettings


class KafkaLogReader:
    """Implements `kernel.log.LogReader`. `join` or `stand_alone` first."""

    def __init__(self, connection: dict[str, Any], settings: KafkaSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._consumer: Any = None
        self._grouped = False
        self._held: frozenset[TopicPartition] = frozenset()
        self._lost: set[TopicPartition] = set()  # revoked since the last poll
        self._stale: set[TopicPartition] = set()  # revoked with records in hand, which were not delivered again yet
        self._in_hand: dict[TopicPartition, int] = {}  # next offset after what was read and not committed
        self._nothing_in_hand = asyncio.Event()
        self._nothing_in_hand.set()

    async def join(self, group: str, topics: Sequence[str]) -> None:
        """Become a member; returns when partitions were assigned."""
        from aiokafka import ConsumerRebalanceListener

        reader = self

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
            async def on_partitions_revoked(self, revoked: set[Any]) -> None:
                await reader._give_up(_sources(revoked))

            async def on_partitions_assigned(self, assigned: set[Any]) -> None:
                pass

        settings = self._settings
        session_ms = round(settings.session_timeout_seconds * 1000)
        self._grouped = True
        self._consumer = self._make_consumer(
            group_id=group,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 3,
            # The others wait for this member that long, so longer than it may wait for its batch.
            rebalance_timeout_ms=session_ms + round(settings.revoke_grace_seconds * 1000),
        )
        self._consumer.subscribe(list(topics), listener=Listener())
        await self._start()

    async def stand_alone(self, topics: Sequence[str], since_ms: int) -> None:
        """Hold every partition from the first record appended at or after `since_ms`."""
        from kernel.log.kafka import partitions_of

        self._consumer = self._make_consumer(group_id=None)
        await self._start()
        sources = [source for topic in topics for source in await partitions_of(self._consumer, topic)]
        self._consumer.assign(sources)
        starts = await self._consumer.offsets_for_times(dict.fromkeys(sources, max(0, since_ms)))
        ends = await self._consumer.end_offsets(sources)
        for source in sources:
            start = starts.get(source)
            self._consumer.seek(source, start.offset if start else ends[source])
        self._held = _sources(sources)

    async def poll(self, max_records: int, timeout_seconds: float) -> Sequence[StoredRecord]:
        from aiokafka.errors import KafkaError

        try:
            found = await self._consumer.getmany(timeout_ms=round(timeout_seconds * 1000), max_records=max_records)
        except KafkaError as error:
            raise LogUnavailable(f"Kafka does not answer: {truncate(repr(error))}; poll again") from error
        # No await from here on, so that the records, the partitions held and those lost belong together.
        self._held = _sources(self._consumer.assignment())
        self._lost.clear()
        records = [_stored(record) for part in found.values() for record in part]
        if self._grouped:
            self._stale -= {record.source for record in records}
            self._in_hand.update({record.source: record.offset + 1 for record in records})
            self._note_hand()
        return records

    async def seek(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        from aiokafka import TopicPartition as Source

        assigned = _sources(self._consumer.assignment())
        for source, offset in next_offsets.items():
            if source in self._held and source in assigned:
                self._consumer.seek(Source(*source), offset)
                self._in_hand.pop(source, None)
        self._note_hand()

    async def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        from aiokafka import TopicPartition as Source
        from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

        if not self._grouped:
            raise LeaseLost("a reader with since_ms stands alone and never commits")
        self._check_held(next_offsets)
        offsets = {Source(*source): offset for source, offset in next_offsets.items()}
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            raise LeaseLost("the group went on without this reader: drop this batch, open a new reader") from error
        except (KafkaError, TimeoutError) as error:
            raise LogUnavailable(f"Kafka did not store positions: {truncate(repr(error))}; commit again") from error
        self._check_held(next_offsets)  # a rebalance may have passed while the commit was retried
        for source, offset in next_offsets.items():
            if self._in_hand.get(source, 0) <= offset:
                self._in_hand.pop(source, None)
        self._note_hand()

    def assignment(self) -> frozenset[TopicPartition]:
        return self._held

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        self._in_hand.clear()
        self._note_hand()
        self._held = frozenset()
        with suppress(Exception):  # the group does without a farewell: the session times out
            await consumer.stop()

    def _make_consumer(self, **arguments: Any) -> Any:
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(
            **self._connection,
            **arguments,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )

    async def _start(self) -> None:
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise

    def _check_held(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for source in next_offsets:
            if source not in self._held or source in self._lost or source in self._stale:
                raise LeaseLost(f"{source.topic}/{source.partition} went to another reader: drop this batch")

    def _note_hand(self) -> None:
        if self._in_hand:
            self._nothing_in_hand.clear()
        else:
            self._nothing_in_hand.set()

    async def _give_up(self, revoked: frozenset[TopicPartition]) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._nothing_in_hand.wait(), self._settings.revoke_grace_seconds)
        self._lost |= revoked
        for source in revoked & self._in_hand.keys():
            self._stale.add(source)
            del self._in_hand[source]
        self._note_hand()


def _sources(sources: Any) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(source.topic, source.partition) for source in sources)


def _stored(record: Any) -> StoredRecord:
    return StoredRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key or b"",
        record.value or b"",
        dict(record.headers),
    )
