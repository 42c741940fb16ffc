"""A reader in a process of its own: reads four records, commits two, and waits to be killed."""

import asyncio
import sys
from pathlib import Path

from kernel.clock import SystemClock
from kernel.log import Log, TopicPartition
from kernel.log.kafka import KafkaLog
from kernel.log.kafka_settings import KafkaSettings
from kernel.log.sqlite import SqliteLog


def open_log(kind: str, place: str) -> Log:
    if kind == "sqlite":
        return SqliteLog(Path(place), SystemClock())
    return KafkaLog(place, KafkaSettings(bootstrap_servers=place, session_timeout_seconds=6))


async def main(kind: str, place: str, group: str, topic: str) -> None:
    reader = await open_log(kind, place).reader(group, [topic])
    offsets: list[int] = []
    while len(offsets) < 4:
        offsets += [stored.offset for stored in await reader.poll(10, 1)]
    await reader.commit({TopicPartition(topic, 0): 2})
    print(len(offsets), flush=True)  # noqa: T201 - the test waits for it
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
