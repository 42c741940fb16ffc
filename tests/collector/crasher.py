"""A small shipper that a test kills: frames into a lane, an uploader, and a gateway that is a file.

`ship_and_die` runs in a process of its own that ends at the place named; `ship` goes on from what is on disk.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.history import backfill
from collector.history.backfill import Backfill, apply_policy
from collector.history.table import HistoryTable, load_history
from collector.labels import make_labels
from collector.left import LeftLedger
from collector.left_meta import FrameMeta
from collector.metrics import CollectorMetrics
from collector.policy import OpenPolicy
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.parts import UploaderParts
from collector.push.transport import Push
from collector.push.uploader import Uploader
from collector.push.version import VersionMemory
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions, PayloadDraft
from collector.wire.encode_rw2 import encode_rw2
from collector.wire.headers import SAMPLES_WRITTEN, PushLane
from collector.wire.rw2 import decode_request
from collector.wire.series import WireSeries, series_of
from collector.wire.snappy import compress, decompress
from kernel.clock import SystemClock
from kernel.crashpoints import arm
from tests.collector.world import LIMITS, Rows, rows_of

SERIES = 5
SEGMENT_BYTES = 700  # three frames
OPTIONS = LaneOptions(PushLane.BILLING, 10**7, SEGMENT_BYTES)
HISTORY_OPTIONS = LaneOptions(PushLane.HISTORY, 10**8, 10**6, drop_oldest=False)


@dataclass(frozen=True)
class Witnessed:
    """A push as the file kept it."""

    position: tuple[int, int, int]
    body: bytes
    accepted: bool

    def rows(self) -> Rows:
        return rows_of(decode_request(decompress(self.body, 2**31), LIMITS))


class FileGateway:
    """Refuses every push with a series named `bad`; keeps all it was sent, synced, before it answers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, push: Push) -> Answer:
        series = series_of(decode_request(decompress(push.body, 2**31), LIMITS))
        accepted = all(dict(one.labels)["__name__"] != "bad" for one in series)
        headers = push.headers
        line = {
            "position": [headers.epoch, headers.sequence, headers.part],
            "body": b64encode(push.body).decode(),
            "accepted": accepted,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return Answer(204 if accepted else 400, "" if accepted else "bad series", {SAMPLES_WRITTEN: "0"})

    def witnessed(self) -> list[Witnessed]:
        if not self._path.exists():
            return []
        lines = map(json.loads, self._path.read_text().splitlines())
        return [Witnessed(tuple(one["position"]), b64decode(one["body"]), one["accepted"]) for one in lines]


def make_series(number: int) -> list[WireSeries]:
    """Five series with one sample each, whose value is the frame's number; in every third one is bad."""
    names = [f"milvus_{index}" for index in range(SERIES)]
    if number % 3 == 0:
        names[number % SERIES] = "bad"
    return [WireSeries(make_labels({"__name__": name}), ((number * 1000, float(number)),)) for name in names]


def make_draft(number: int) -> PayloadDraft:
    meta = FrameMeta({"milvus": (SERIES, SERIES * 18)}, [("milvus", "milvus_0")] if number == 1 else [])
    return PayloadDraft(SERIES, meta.render(), compress(encode_rw2(make_series(number))), number * 1000)


async def ship(folder: Path, numbers: range) -> None:
    """Append frames and push until all is settled."""
    clock = SystemClock()
    lane = LaneSpool(folder / "billing", OPTIONS, clock)
    lane.open()
    ledger = LeftLedger(folder / "left.sqlite", clock, 100)
    ledger.open()
    parts = UploaderParts(
        FileGateway(folder / "gateway.jsonl"),
        VersionMemory(folder / "version.json", clock),
        DeadLetters(folder / "dead.jsonl", 10**6),
        ledger,
        CollectorMetrics(),
        clock,
    )
    task = asyncio.create_task(Uploader(lane, parts, Backoff(0.01, 0.02, random.Random(1))).run())
    for number in numbers:
        await lane.append(make_draft(number))
    await lane.drained()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await lane.close()


def run_until_killed(target: Callable[..., None], *arguments: object) -> None:
    """Run `target` in a process of its own, which must end by SIGKILL.

    Forked from a server that has the imports done: a process as real as any, without seconds of start-up.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.collector.crasher"])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


async def append_history(folder: Path, table: HistoryTable) -> None:
    """Append a table to the history lane in `folder`."""
    lane = LaneSpool(folder / "history", HISTORY_OPTIONS, SystemClock())
    lane.open()
    await Backfill(lane, table, apply_policy(table, OpenPolicy(), ())).run()
    await lane.close()


def append_history_and_die(place: str, file: Path, chunk_samples: int) -> None:
    """The body of a backfill that is killed."""
    arm(place)
    backfill.CHUNK_SAMPLES = chunk_samples
    asyncio.run(append_history(file.parent, load_history(file, SystemClock().now_ms())))


def ship_and_die(place: str, folder: Path, frames: int) -> None:
    """The body of the process that is killed."""
    arm(place)
    asyncio.run(ship(folder, range(1, frames + 1)))
