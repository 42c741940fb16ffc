"""What only Kafka does: a small broker, a broker that is away, a log that was moved from SQLite."""

import asyncio
from pathlib import Path

import pytest

from kernel.clock import SystemClock
from kernel.log import LogUnavailable, RecordTooLarge
from kernel.log.kafka import KafkaLog
from kernel.log.kafka_settings import KafkaSettings
from kernel.log.sqlite import SqliteLog
from tests.contracts.log_rigs import read, record
from tests.services.fixtures import StartKafka
from tests.services.kafka import KafkaServer
from tests.services.process import free_ports


def impatient(bootstrap_servers: str) -> KafkaLog:
    settings = KafkaSettings(bootstrap_servers=bootstrap_servers, request_timeout_seconds=2)
    return KafkaLog(bootstrap_servers, settings)


async def test_no_broker_is_unavailable_and_leaves_nothing_open() -> None:
    log = impatient(f"127.0.0.1:{free_ports(1)[0]}")
    for call in (log.writer(), log.ensure_topics({"t": 1}), log.end_offsets("t"), log.reader("g", ["t"])):
        with pytest.raises(LogUnavailable, match="try again"):
            await call
    await log.close()


@pytest.mark.services
@pytest.mark.slow
async def test_a_small_broker_that_goes_away_and_comes_back(start_kafka: StartKafka) -> None:
    server = start_kafka({"message.max.bytes": "20000"})
    log = impatient(server.bootstrap_servers)
    writer = await log.writer()
    assert writer.max_record_bytes == 20_000 - 128  # read from the broker
    await log.ensure_topics({"t": 1})
    await writer.append("t", [record("k", b"x" * (writer.max_record_bytes - 1))])
    with pytest.raises(RecordTooLarge, match="19872"):
        await writer.append("t", [record("k", b"x" * 19_872)])

    await asyncio.to_thread(server.process.kill)
    with pytest.raises(LogUnavailable, match="append them again"):
        await writer.append("t", [record("k", "while away")])
    await asyncio.to_thread(server.process.start)
    while True:
        try:
            await writer.append("t", [record("k", "back")])
        except LogUnavailable:
            continue
        break
    values = [stored.value for stored in await read(await log.reader("g", ["t"]), 3)]
    assert values[0].startswith(b"xxx")
    assert values[1] == b"while away"  # unknown then; it was in the producer's hand, and before what came later
    assert values[-1] == b"back"
    await log.close()


@pytest.mark.services
async def test_a_key_keeps_its_partition_when_a_log_is_moved(kafka_server: KafkaServer, tmp_path: Path) -> None:
    embedded, scaled = SqliteLog(tmp_path / "log.sqlite", SystemClock()), KafkaLog(kafka_server.bootstrap_servers)
    records = [record(f"org-{number}/main/collector-a", "v") for number in range(30)]
    found = []
    for log in (embedded, scaled):
        await log.ensure_topics({"moved": 6})
        positions = await (await log.writer()).append("moved", records)
        found.append([position.partition for position in positions])
        await log.close()
    assert found[0] == found[1]
