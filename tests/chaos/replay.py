"""Sends again what a collector has pushed: each body several times, in any order, over its own identity."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import aiohttp

from collector.spool.frame import Frame
from collector.spool.segment import list_segments, scan
from collector.spool.settled import Settled
from collector.wire.headers import CONTENT_TYPE_FRAMES, PushHeaders
from kernel.identity import client_context


def pushed_frames(spool: Path) -> list[Frame]:
    """The frames of the billing lane that have been pushed; one that waits would not be repeated but come first."""
    settled = Settled(spool / "billing" / "settled.json")
    settled.load()
    frames: list[Frame] = []
    for folder in (spool / "billing", spool / "billing" / "archive"):
        for name in list_segments(folder):
            path = folder / str(name)
            with suppress(FileNotFoundError):  # put away meanwhile; the archive is looked at next
                frames += [found for found in scan(path, name, path.stat().st_size) if isinstance(found, Frame)]
    return [frame for frame in frames if frame.position in settled]


def send_again(url: str, identity: Path, frames: list[Frame], dice: random.Random) -> Counter[int]:
    """How often each status was answered. Two connections at once, each body two or three times, shuffled."""
    repeated = [frame for frame in frames for _ in range(dice.randint(2, 3))]
    dice.shuffle(repeated)

    async def send_all() -> Counter[int]:
        certificate = identity / "identity.pem"
        context = client_context((identity / "authority.pem").read_bytes(), certificate, certificate)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            halves = (repeated[::2], repeated[1::2])
            counted = await asyncio.gather(*(_send(session, url, half) for half in halves))
        return counted[0] + counted[1]

    return asyncio.run(send_all())


async def _send(session: aiohttp.ClientSession, url: str, frames: list[Frame]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for frame in frames:
        headers = PushHeaders(frame.epoch, frame.sequence, frame.lane, 0, frame.complete_through_ms).render()
        headers["Content-Type"] = CONTENT_TYPE_FRAMES
        async with session.post(f"{url}/api/v1/write", data=frame.payload, headers=headers) as answer:
            await answer.read()
            statuses[answer.status] += 1
    return statuses
