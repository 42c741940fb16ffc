"""The log on Apache Kafka: idempotent producer, acks=all, consumer groups with manual commit.

Topics that byoc makes use the broker's time of append, so that a record's timestamp means the same as in the other
adapters. Their largest record is read from the broker, never assumed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kernel.errors import truncate
from kernel.log import LogUnavailable, TopicNotFound, TopicPartition
from kernel.log.kafka_reader import KafkaLogReader
from kernel.log.kafka_settings import KafkaSettings
from kernel.log.kafka_writer import KafkaLogWriter

_BATCH_OVERHEAD_BYTES = 128  # a record batch's header of 61 bytes, and the record's own lengths


class KafkaLog:
    """Implements `kernel.log.Log`. Connects when first used; belongs to one event loop."""

    def __init__(self, bootstrap_servers: str, settings: KafkaSettings | None = None) -> None:
        self.settings = settings or KafkaSettings(bootstrap_servers=bootstrap_servers)
        self._bootstrap_servers = bootstrap_servers
        self._limits: dict[str, int] = {}
        self._broker_limit: int | None = None
        self._open: set[KafkaLogWriter | KafkaLogReader] = set()

    @property
    def max_record_bytes(self) -> int:
        """The smallest limit of the topics seen so far, else the broker's; known once a writer was made."""
        limits = self._limits.values() or [self._broker_limit or 0]
        return min(limits)

    def connection(self) -> dict[str, Any]:
        """What every aiokafka client is made with."""
        settings = self.settings
        arguments: dict[str, Any] = {
            "bootstrap_servers": self._bootstrap_servers,
            "request_timeout_ms": round(settings.request_timeout_seconds * 1000),
            "security_protocol": settings.security,
        }
        if settings.security.endswith("SSL"):
            arguments["ssl_context"] = _tls_context(settings)
        if settings.sasl_password is not None and settings.security.startswith("SASL"):
            arguments |= {
                "sasl_mechanism": settings.sasl_mechanism,
                "sasl_plain_username": settings.sasl_username,
                "sasl_plain_password": settings.sasl_password.get_secret_value(),
            }
        return arguments

    async def ensure_topics(self, topics: Mapping[str, int]) -> None:
        async with self._admin() as admin:
            existing = await admin.list_topics()
            missing = [self._new_topic(*topic) for topic in topics.items() if topic[0] not in existing]
            if missing:
                _check_created((await admin.create_topics(missing)).topic_errors)
            await self._wait_for(admin, list(topics))
        for topic in topics:
            await self.limit_of(topic)

    def _new_topic(self, name: str, partitions: int) -> Any:
        from aiokafka.admin import NewTopic

        settings = self.settings
        configs = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "delete",
            "retention.ms": str(settings.retention_hours * 3_600_000),
        }
        if settings.min_insync_replicas is not None:
            configs["min.insync.replicas"] = str(settings.min_insync_replicas)
        topic = NewTopic(name, partitions, replication_factor=1, topic_configs=configs)
        topic.replication_factor = settings.replication_factor  # its constructor refuses -1, the broker's default
        return topic

    async def writer(self) -> KafkaLogWriter:
        if self._broker_limit is None:
            self._broker_limit = await self._read_broker_limit()
        writer = KafkaLogWriter(self, self.settings.request_timeout_seconds)
        await writer.start()
        self._open.add(writer)
        return writer

    async def reader(self, group: str, topics: Sequence[str], since_ms: int | None = None) -> KafkaLogReader:
        for topic in topics:
            await self.limit_of(topic)  # raises TopicNotFound, where a consumer would wait for ever
        reader = KafkaLogReader(self.connection(), self.settings)
        async with kafka_errors("start a reader"):
            if since_ms is None:
                await reader.join(group, topics)
            else:
                await reader.stand_alone(topics, since_ms)
        self._open.add(reader)
        return reader

    async def end_offsets(self, topic: str) -> Mapping[TopicPartition, int]:
        from aiokafka import AIOKafkaConsumer

        await self.limit_of(topic)
        consumer = AIOKafkaConsumer(**self.connection(), enable_auto_commit=False)
        async with kafka_errors("read the end of a topic"):
            try:
                await consumer.start()
                ends = await consumer.end_offsets(await partitions_of(consumer, topic))
            finally:
                await consumer.stop()
        return {TopicPartition(source.topic, source.partition): offset for source, offset in sorted(ends.items())}

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()

    async def limit_of(self, topic: str) -> int:
        """The largest record (see `kernel.log.groups.record_bytes`) the topic takes. Raises TopicNotFound."""
        if topic not in self._limits:
            async with self._admin() as admin:
                if topic not in await admin.list_topics():
                    raise TopicNotFound(f"Kafka has no topic {topic!r}: call ensure_topics first")
                found = await _read_config(admin, "TOPIC", topic, "max.message.bytes")
            self._limits[topic] = found - _BATCH_OVERHEAD_BYTES
        return self._limits[topic]

    async def _read_broker_limit(self) -> int:
        async with self._admin() as admin:
            cluster = await admin.describe_cluster()
            broker = str(cluster["brokers"][0]["node_id"])
            return await _read_config(admin, "BROKER", broker, "message.max.bytes") - _BATCH_OVERHEAD_BYTES

    async def _wait_for(self, admin: Any, topics: list[str]) -> None:
        """Until every partition has a leader: an append before that fails."""
        async with asyncio.timeout(self.settings.request_timeout_seconds):
            while True:
                described = {topic["topic"]: topic for topic in await admin.describe_topics(topics)}
                partitions = [part for topic in topics for part in described[topic]["partitions"]]
                if partitions and all(part["leader"] >= 0 for part in partitions):
                    return
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        from aiokafka.admin import AIOKafkaAdminClient

        async with kafka_errors("ask the brokers"):
            admin = AIOKafkaAdminClient(**self.connection())
            try:
                await admin.start()
                yield admin
            finally:
                await admin.close()


@asynccontextmanager
async def kafka_errors(purpose: str) -> AsyncIterator[None]:
    """aiokafka's errors as LogUnavailable."""
    from aiokafka.errors import KafkaError

    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable(f"could not {purpose}: {truncate(repr(error))}; try again") from error


async def partitions_of(consumer: Any, topic: str) -> list[Any]:
    """aiokafka's TopicPartition of every partition of a topic."""
    from aiokafka import TopicPartition as Source

    numbers = await consumer._client._wait_on_metadata(topic)  # noqa: SLF001 - its public twin needs a subscription
    return [Source(topic, number) for number in sorted(numbers)]


async def _read_config(admin: Any, kind: str, name: str, key: str) -> int:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    answers = await admin.describe_configs([ConfigResource(ConfigResourceType[kind], name, {key: None})])
    for answer in answers:
        for code, message, _kind, _name, entries in answer.resources:
            if code:
                raise LogUnavailable(f"Kafka does not tell {key} of {name}: error {code} {truncate(str(message))}")
            for entry in entries:
                if entry[0] == key:
                    return int(entry[1])
    raise LogUnavailable(f"Kafka does not tell {key} of {name}: allow DescribeConfigs to this user")


def _check_created(answers: Sequence[Sequence[Any]]) -> None:
    from aiokafka.errors import TopicAlreadyExistsError, for_code

    for topic, code, *message in answers:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another process was faster
            raise LogUnavailable(f"Kafka did not make topic {topic}: {error.__name__} {truncate(str(message))}")


def _tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.certificate_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context
