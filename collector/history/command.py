"""`byoc collector backfill`, wired."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from collector.app import Shipping, make_policy
from collector.history.backfill import Backfill, apply_policy
from collector.history.table import HistoryTable, load_history
from collector.labels import make_labels
from collector.metrics import CollectorMetrics
from collector.settings import CollectorSettings
from collector.wire.headers import PushLane
from kernel.clock import SystemClock


@dataclass(frozen=True, slots=True)
class BackfillOutcome:
    """Samples: in the file, kept in by the policy, appended by this run, refused by the gateway so far."""

    rows: int
    denied: int
    appended: int
    rejected: int


async def backfill(settings: CollectorSettings, file: Path | None) -> BackfillOutcome:
    """Send `file`, and whatever an earlier run left in the lane; returns when the gateway has it all.

    Raises InvalidInput (nothing is sent), SpoolLocked, IdentityRefused, EnrolmentFailed.
    """
    clock = SystemClock()
    table = HistoryTable((), "")
    if file is not None:
        table = await asyncio.to_thread(load_history, file, clock.now_ms())
    policy = await asyncio.to_thread(make_policy, settings)
    external = make_labels(settings.global_.external_labels)
    allowed = await asyncio.to_thread(apply_policy, table, policy, external)
    shipping = Shipping(settings, PushLane.HISTORY, clock, CollectorMetrics())
    await shipping.identity.ensure()
    await shipping.open()
    try:
        job = Backfill(shipping.spool, table, allowed)
        done = await asyncio.to_thread(job.chunks_done)  # before the frames that say so are pushed and gone
        shipping.start()
        work = asyncio.create_task(_work(shipping, job, done))
        pushing = asyncio.create_task(shipping.watch())
        await asyncio.wait({work, pushing}, return_when=asyncio.FIRST_COMPLETED)
        if pushing.done():
            work.cancel()
            pushing.result()
        pushing.cancel()
        appended = await work
    finally:
        await shipping.close()
    return BackfillOutcome(len(table.rows), allowed.denied, appended, len(shipping.dead_letters.load()))


async def _work(shipping: Shipping, job: Backfill, done: int) -> int:
    appended = await job.run(done)
    await shipping.spool.drained()
    return appended
