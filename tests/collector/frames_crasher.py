"""A shipper of frames that a test kills, and a gateway whose log is a file."""

from __future__ import annotations

import asyncio
import json
import os
import random
from base64 import b64decode, b64encode
from dataclasses import asdict
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from collector.left import LeftLedger
from collector.metrics import CollectorMetrics
from collector.push.answer import Answer
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.parts import UploaderParts
from collector.push.transport import Push
from collector.push.uploader import Uploader
from collector.push.version import VersionMemory, WireProtocol
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.wire.frames import FrameLimits, GroupGuard, open_body
from collector.wire.headers import PushHeaders, PushLane
from collector.wire.receipt import ReceiptSigner
from kernel.clock import SystemClock
from kernel.crashpoints import arm
from kernel.identity import CertificateAuthority
from tests.collector.frames import FrameGateway, FrameStream, Taken

OPTIONS = LaneOptions(PushLane.BILLING, 10**7, segment=500, keep=1000, keep_bytes=10**7)


class DurableFrameGateway(FrameGateway):
    """Its log is synced before it answers, and read again by the next process."""

    def __init__(self, folder: Path) -> None:
        place = folder / "ca"
        clock = SystemClock()
        if not place.exists():
            CertificateAuthority.create(place, "byoc.test", clock)
        authority = CertificateAuthority.open(place, clock)
        super().__init__(authority, place, signer=ReceiptSigner(Ed25519PrivateKey.from_private_bytes(bytes(32))))
        self._path = folder / "gateway.jsonl"
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            fields = json.loads(line)
            fields["headers"]["lane"] = PushLane(fields["headers"]["lane"])
            taken = Taken(PushHeaders(**fields["headers"]), b64decode(fields["body"]), WireProtocol.FRAMES)
            self.log.append(taken)
            body = open_body(taken.body, FrameLimits())
            key = taken.headers.lane.value, taken.headers.epoch, body.group
            self.guards.setdefault(key, GroupGuard()).apply(body)

    def take(self, push: Push) -> Answer:
        before = len(self.log)
        answer = super().take(push)
        if len(self.log) > before:
            line = {"headers": asdict(push.headers), "body": b64encode(push.body).decode()}
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        return answer


async def ship_frames(folder: Path, numbers: range) -> None:
    """Scrape and push until all is settled."""
    clock = SystemClock()
    gateway = DurableFrameGateway(folder)
    lane = LaneSpool(folder / "billing", OPTIONS, clock)
    lane.open()
    ledger = LeftLedger(folder / "left.sqlite", clock, 100)
    ledger.open()
    parts = UploaderParts(
        gateway,
        VersionMemory(folder / "version.json", clock),
        DeadLetters(folder / "dead.jsonl", 10**6),
        ledger,
        CollectorMetrics(),
        clock,
        gateway.proofs(folder / "identity", lane, clock),
    )
    task = asyncio.create_task(Uploader(lane, parts, Backoff(0.01, 0.02, random.Random(1))).run())
    stream = FrameStream(1)
    for number in numbers:
        await stream.append(lane, number, {"a": number, f"b{number // 3}": 1}, number)
    await lane.drained()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await lane.close()
    ledger.close()


def ship_frames_and_die(place: str, folder: Path, count: int) -> None:
    """The body of the process that is killed."""
    arm(place)
    asyncio.run(ship_frames(folder, range(1, count + 1)))
