"""A process of its own on a SQLite log: `append N PREFIX` or `hold GROUP`. Prints a line for each step."""

import asyncio
import sys
from pathlib import Path

from kernel.clock import SystemClock
from kernel.log import Record
from kernel.log.sqlite import SqliteLog


async def append(log: SqliteLog, count: int, prefix: str) -> None:
    writer = await log.writer()
    for number in range(count):
        await writer.append("t", [Record(prefix.encode(), f"{prefix}{number}".encode(), {})])
        print(number, flush=True)  # noqa: T201 - the test reads it


async def hold(log: SqliteLog, group: str) -> None:
    reader = await log.reader(group, ["t"])
    read = await reader.poll(1000, 5)
    print(len(read), flush=True)  # noqa: T201 - the test reads it
    while True:
        await reader.poll(1000, 1)


async def main() -> None:
    log = SqliteLog(Path(sys.argv[1]), SystemClock())
    if sys.argv[2] == "append":
        await append(log, int(sys.argv[3]), sys.argv[4])
    else:
        await hold(log, sys.argv[3])
    await log.close()


asyncio.run(main())
