"""Appends to Kafka through one idempotent producer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from kernel.errors import truncate
from kernel.log import LogUnavailable, Position, Record, partition_of
from kernel.log.groups import check_sizes

_MAX_BATCH_BYTES = 512 * 1024
_STOP_SECONDS = 5.0


class Connection(Protocol):
    """What a writer needs of its log."""

    @property
    def max_record_bytes(self) -> int: ...

    def connection(self) -> dict[str, Any]: ...

    async def limit_of(self, topic: str) -> int: ...


class KafkaLogWriter:
    """Implements `kernel.log.LogWriter`.

    Memory is bounded by the producer: it holds one batch in flight and one that fills per partition; when both are
    full, `append` waits. An append that times out may still be delivered, before any later one of its partition.
    """

    def __init__(self, log: Connection, timeout_seconds: float) -> None:
        self._log = log
        self._timeout_seconds = timeout_seconds
        self._producer: Any = None
        self._starting = asyncio.Lock()
        # A full batch makes a send wait; without its turn a later, smaller record would overtake it.
        self._turns: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closed = False

    @property
    def max_record_bytes(self) -> int:
        return self._log.max_record_bytes

    async def start(self) -> None:
        """Connect. Raises LogUnavailable."""
        await self._ready_producer()

    async def append(self, topic: str, records: Sequence[Record]) -> Sequence[Position]:
        check_sizes(records, await self._log.limit_of(topic))
        producer = await self._ready_producer()
        sent: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._timeout_seconds):
                partitions = len(await producer.partitions_for(topic))
                for record in records:
                    partition = partition_of(record.key, partitions)
                    sent.append(await self._send(producer, topic, partition, record))
                # Not gather: cancelling it would cancel what other appends of the batch wait for.
                if sent:
                    await asyncio.wait(sent)
            outcomes = [future.result() for future in sent]
        except TimeoutError as error:
            raise LogUnavailable(
                f"Kafka did not acknowledge an append to {topic} in {self._timeout_seconds:g} s; whether it has the"
                " records is unknown: append them again"
            ) from error
        except Exception as error:
            raise LogUnavailable(f"an append to {topic} failed: {truncate(repr(error))}; append again") from error
        return [Position(outcome.topic, outcome.partition, outcome.offset) for outcome in outcomes]

    async def close(self) -> None:
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _send(self, producer: Any, topic: str, partition: int, record: Record) -> asyncio.Future[Any]:
        async with self._turns[topic, partition]:
            future: asyncio.Future[Any] = await producer.send(
                topic,
                record.value,
                key=record.key,
                partition=partition,
                headers=list(record.headers.items()),
            )
        future.add_done_callback(_take_error)
        return future

    async def _ready_producer(self) -> Any:
        async with self._starting:
            if self._closed:
                raise LogUnavailable("the writer is closed")
            if self._producer is not None and _is_broken(self._producer):
                broken, self._producer = self._producer, None
                await _stop(broken)
            if self._producer is None:
                self._producer = await self._start_producer()
            return self._producer

    async def _start_producer(self) -> Any:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        limit = self._log.max_record_bytes
        producer = AIOKafkaProducer(
            **self._log.connection(),
            enable_idempotence=True,
            acks="all",
            max_batch_size=min(limit, _MAX_BATCH_BYTES),
            max_request_size=64 * 1024 * 1024,  # the topic's own limit was checked before
        )
        try:
            await asyncio.wait_for(producer.start(), self._timeout_seconds)
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(producer)
            raise LogUnavailable(f"no broker answers: {truncate(repr(error))}; try again") from error
        return producer


def _take_error(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # seen, though the append that waited for it may have timed out


def _is_broken(producer: Any) -> bool:
    """Whether the producer's sender ended: after a fatal answer, such as a lost sequence, it sends no more."""
    task = producer._sender.sender_task  # noqa: SLF001 - aiokafka tells it nowhere else
    return task is None or task.done()


async def _stop(producer: Any) -> None:
    """Stop, flushing for a bounded time: with brokers away aiokafka would flush for ever."""
    try:
        await asyncio.wait_for(producer.stop(), _STOP_SECONDS)
    except Exception:  # whatever it was, what follows ends the tasks and sockets
        with suppress(Exception):
            await asyncio.wait_for(producer._sender.close(), _STOP_SECONDS)  # noqa: SLF001
        with suppress(Exception):
            await producer.client.close()
