"""The gateway on a real Kafka: the broker's limit is its own, and receipts say where the records are."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.wire.frames import join_blocks
from collector.wire.headers import PushHeaders
from collector.wire.receipt import parse_answer
from kernel.log.kafka import KafkaLog
from metering.record import HISTORY_TOPIC, LIVE_TOPIC
from tests.gateway.test_frames import NOW, Collector, entries
from tests.gateway.world import Sender, gateway_world
from tests.services.fixtures import StartKafka

pytestmark = [pytest.mark.services, pytest.mark.slow]


async def test_a_small_broker_is_heeded_and_named(start_kafka: StartKafka, tmp_path: Path) -> None:
    log = KafkaLog(start_kafka({"message.max.bytes": "20000"}).bootstrap_servers)
    await log.ensure_topics({LIVE_TOPIC: 2, HISTORY_TOPIC: 1})
    async with (
        gateway_world(tmp_path, writer=await log.writer(), log=log) as world,
        Sender(world, world.context(world.credentials())) as sender,
    ):
        collector = Collector(sender)
        answer = await collector.send(bytes(18_000), PushHeaders(7, 1))
        assert answer.status == 413
        assert f"at most {20_000 - 128 - 2048} bytes" in answer.text
        first, second = collector.scrape(entries(0, 50)), collector.scrape(entries(0, 50))
        positions: list[tuple[str, int, int]] = []
        for blocks in (first, second):
            accepted = await collector.push(blocks)
            assert accepted.status == 200
            positions += parse_answer(accepted.text.encode())[0].content.log
        many = [((("__name__", f"m{number}"),), [(NOW, 1.0)]) for number in range(5000)]
        cut = await sender.write(many, PushHeaders(7, 3))
        assert cut.status == 200, "remote write is cut to fit"
        assert len(parse_answer(cut.text.encode())[0].content.log) > 1
        reader = await log.reader("witness", [LIVE_TOPIC], since_ms=0)
        found: dict[tuple[str, int, int], bytes] = {}
        while records := await reader.poll(100, 5.0 if not found else 0.5):
            found |= {(one.topic, one.partition, one.offset): one.value for one in records}
        await reader.close()
        assert [found[position] for position in positions] == [join_blocks(1, one) for one in (first, second)]
    await log.close()
