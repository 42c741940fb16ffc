"""From a lane of the spool to the gateway, wired: what a scraping collector and a backfill have in common."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from dataclasses import asdict
from pathlib import Path

from collector.gate import ShippingGate
from collector.identity.client import IdentityClient
from collector.identity.receipt_keys import ReceiptKeys
from collector.left import LeftLedger
from collector.left_rollup import Retention
from collector.metrics import CollectorMetrics
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.gap_notices import GapTeller
from collector.push.parts import Proofs, UploaderParts
from collector.push.rate import ByteRate
from collector.push.receipts import ReceiptJudge
from collector.push.refusals import Refusals
from collector.push.transport import HttpsSender
from collector.push.uploader import Uploader
from collector.push.version import VersionMemory
from collector.settings import CollectorSettings, LeftSettings
from collector.spool.gaps import Gap, GapRecords
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.spool.receipts import ReceiptStore
from collector.wire.headers import PushLane
from kernel.clock import Clock
from kernel.identity import Identity
from kernel.logs import logger

_log = logger("shipping")
DRAIN_SECONDS = 3.0


class Way:
    """What all lanes of a process share on their way to the gateway."""

    def __init__(self, settings: CollectorSettings, clock: Clock, metrics: CollectorMetrics) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.identity = IdentityClient(settings.gateway, clock)
        self.ledger = LeftLedger(ledger_path(settings), clock, settings.left.max_series, retention(settings.left))
        self.gate = ShippingGate()
        self.version = VersionMemory(settings.spool.folder / "version.json", clock)
        self.receipt_keys = ReceiptKeys(self.identity.folder)
        self.gaps = {lane.value: GapRecords(lane_folder(settings, lane)) for lane in PushLane}
        self.refusals = Refusals(self.gaps, clock)
        self.senders: list[HttpsSender] = []
        self._who: tuple[tuple[int, int, int], Identity] | None = None

    def sender(self) -> HttpsSender:
        """A new connection of its own, renewed with the others."""
        sender = HttpsSender(self.settings.gateway, self.identity.context)
        self.senders.append(sender)
        return sender

    def who(self) -> Identity:
        """Whose certificate we hold; looked at again when its file is another. Blocking. Raises IdentityRefused."""
        try:
            found = self.identity.folder.certificate_path.stat()
        except OSError:
            self._who = None
        else:
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
            if self._who is not None and self._who[0] == stamp:
                return self._who[1]
            who = self.identity.folder.check(self.clock.now(), to_renew=True).identity
            self._who = stamp, who
            return who
        return self.identity.folder.check(self.clock.now(), to_renew=True).identity

    async def close(self) -> None:
        """Close the ledger, after all lanes. Idempotent."""
        await asyncio.to_thread(self.ledger.close)

    async def reload(self) -> None:
        """New handshakes everywhere, after a renewal."""
        for sender in self.senders:
            await sender.reload()


class Shipping:
    """One lane with its uploaders: for fresh frames, and for a backlog."""

    def __init__(
        self,
        settings: CollectorSettings,
        lane: PushLane,
        clock: Clock,
        metrics: CollectorMetrics,
        way: Way | None = None,
    ) -> None:
        self.way = way or Way(settings, clock, metrics)
        self.folder = lane_folder(settings, lane)
        self.spool = LaneSpool(self.folder, lane_options(settings, lane), clock)
        self.way.gaps[lane.value] = self.spool.gaps
        self.spool.gaps.told = self._list_gap
        self.dead_letters = DeadLetters(self.folder / "dead-letters.jsonl", settings.spool.dead_letters)
        self.receipts = ReceiptStore(self.folder / "receipts", clock, settings.spool.keep)
        self.sender = self.way.sender()
        self.uploader: Uploader | None = None
        self._teller: GapTeller | None = None
        self.task: asyncio.Task[None] | None = None
        self._settings = settings
        self._clock = clock
        self._owns_way = way is None
        self._backlog_sender = self.way.sender()

    @property
    def identity(self) -> IdentityClient:
        return self.way.identity

    @property
    def ledger(self) -> LeftLedger:
        return self.way.ledger

    async def open(self) -> None:
        """Take the lane. Raises SpoolLocked, OSError."""
        await asyncio.to_thread(self._adopt_old_folder)
        await asyncio.to_thread(self.spool.open)
        if self._owns_way:
            await asyncio.to_thread(self.ledger.open)
        self._observe()

    def _list_gap(self, gap: Gap) -> None:
        try:
            self.ledger.gap(self.spool.options.lane, asdict(gap))
        except (OSError, sqlite3.Error) as error:  # the lane's own record of it is what counts
            _log.error("gap_not_listed", error=str(error))
        if self._teller is not None:
            self._teller.wake()

    def _observe(self) -> None:
        label, metrics, spool = self.spool.options.lane.value, self.way.metrics, self.spool
        metrics.spool_bytes.labels(label).set_function(lambda: spool.bytes)
        metrics.spool_pending.labels(label).set_function(lambda: spool.pending_bytes)
        metrics.spool_oldest.labels(label).set_function(spool.oldest_seconds)
        metrics.spool_gaps.labels(label).set_function(lambda: spool.gaps.recorded)
        metrics.dropped.labels(label).set_function(lambda: spool.dropped_frames)

    def _adopt_old_folder(self) -> None:
        old = self._settings.spool.folder / "live"  # the billing lane's folder before there was bulk
        if self.spool.options.lane is PushLane.BILLING and old.is_dir() and not self.spool.folder.exists():
            old.rename(self.spool.folder)

    def start(self) -> None:
        """Begin to push."""
        self.spool.part_old_backlog(took_frames=self.way.version.took_frames)
        fresh = self.uploader = Uploader(self.spool, self._parts(self.sender), self._backoff())
        rate = ByteRate(self._settings.spool.backlog_rate, self._clock)
        backlog = Uploader(self.spool, self._parts(self._backlog_sender), self._backoff(), rate)
        teller = self._teller = GapTeller(self.spool, self._parts(self._backlog_sender), self._backoff())
        self.task = asyncio.create_task(_all(fresh, backlog, teller), name=f"push.{self.spool.options.lane}")

    def _parts(self, sender: HttpsSender) -> UploaderParts:
        way = self.way
        judge = ReceiptJudge(way.receipt_keys, sender.get, way.who, way.refusals, self._clock)
        return UploaderParts(
            sender,
            way.version,
            self.dead_letters,
            way.ledger,
            way.metrics,
            self._clock,
            Proofs(judge, self.receipts),
            way.gate,
        )

    def _backoff(self) -> Backoff:
        gateway = self._settings.gateway
        return Backoff(gateway.min_backoff, gateway.max_backoff, random.Random())

    async def watch(self) -> None:
        """Until an uploader fails; raises its error. It should never return."""
        assert self.task is not None
        await asyncio.shield(self.task)

    async def close(self) -> None:
        """Push what is left for a moment, then stop; the rest is on disk."""
        if self.task is not None and self.uploader is not None:
            is_open = self.uploader.last_error is None and self.way.gate.reason() is None
            if is_open and not self.task.done():
                waiting = asyncio.create_task(self.spool.drained())
                await asyncio.wait({waiting, self.task}, timeout=DRAIN_SECONDS, return_when="FIRST_COMPLETED")
                waiting.cancel()
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.sender.close()
        await self._backlog_sender.close()
        await asyncio.to_thread(self.receipts.close)
        await self.spool.close()
        if self._owns_way:
            await self.way.close()


async def _all(fresh: Uploader, backlog: Uploader, teller: GapTeller) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fresh.run(), name="push.fresh")
        tasks.create_task(backlog.run(), name="push.backlog")
        tasks.create_task(teller.run(), name="push.gaps")


def lane_options(settings: CollectorSettings, lane: PushLane) -> LaneOptions:
    """Sizes of a lane; four segments at least, so that settled ones make room."""
    spool = settings.spool
    quota = {
        PushLane.BILLING: spool.billing_quota,
        PushLane.BULK: spool.bulk_quota,
        PushLane.HISTORY: spool.history_quota,
    }[lane]
    return LaneOptions(
        lane,
        quota,
        min(spool.segment, quota // 4),
        drop_oldest=lane is not PushLane.HISTORY,
        max_age=spool.bulk_max_age if lane is PushLane.BULK else 0.0,
        segment_age=spool.segment_age,
        linger=spool.linger,
        keep=0.0 if lane is PushLane.BULK else spool.keep,
        keep_bytes=spool.keep_bytes,
        fresh_after=0.0 if lane is PushLane.HISTORY else spool.fresh_after,
    )


def lane_folder(settings: CollectorSettings, lane: PushLane) -> Path:
    """Where a lane lies."""
    return settings.spool.folder / lane.value


def retention(settings: LeftSettings) -> Retention:
    """How long the ledger keeps what."""
    seconds = settings.minutes_kept, settings.hours_kept, settings.days_kept
    return Retention(*(round(one * 1000) for one in seconds))


def ledger_path(settings: CollectorSettings) -> Path:
    """Where the ledger of what left is."""
    return settings.spool.folder / "left.sqlite"
