"""Wiring of the running collector."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from collector.errors import EnrolmentFailed, PolicyRefused
from collector.gate import ShippingGate
from collector.identity.client import IdentityClient
from collector.identity.renewal import Renewal
from collector.left import LeftLedger
from collector.left_rollup import Retention
from collector.metrics import CollectorMetrics
from collector.policy import Policy
from collector.policy_keeper import PolicyKeeper, load_policy
from collector.push.backoff import Backoff
from collector.push.dead_letters import DeadLetters
from collector.push.transport import HttpsSender
from collector.push.uploader import Uploader, UploaderParts
from collector.push.version import VersionMemory
from collector.reload import Reloader
from collector.scrape.horizon import Horizon
from collector.scrape.loop import ScrapeContext
from collector.scrape.pool import ScrapePools
from collector.settings import CollectorSettings, LeftSettings
from collector.spool.lane import LaneSpool
from collector.spool.options import LaneOptions
from collector.wire.headers import PushLane
from kernel.clock import Clock, SystemClock
from kernel.logs import logger
from kernel.service import Service, serve_health

_log = logger("collector")
DRAIN_SECONDS = 3.0


class Shipping:
    """One lane with its uploader: what a scraping collector and a backfill have in common."""

    def __init__(
        self, settings: CollectorSettings, lane: PushLane, clock: Clock, metrics: CollectorMetrics
    ) -> None:
        self.identity = IdentityClient(settings.gateway, clock)
        folder = settings.spool.folder / lane.value
        self.spool = LaneSpool(folder, lane_options(settings, lane), clock)
        self.ledger = LeftLedger(ledger_path(settings), clock, settings.left.max_series, retention(settings.left))
        self.gate = ShippingGate()
        self.sender = HttpsSender(settings.gateway, self.identity.context)
        self.dead_letters = DeadLetters(folder / "dead-letters.jsonl", settings.spool.dead_letters)
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self.uploader: Uploader | None = None
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take the lane. Raises SpoolLocked, OSError."""
        await asyncio.to_thread(self._adopt_old_folder)
        await asyncio.to_thread(self.spool.open)
        await asyncio.to_thread(self.ledger.open)
        label = self.spool.options.lane.value
        self._metrics.spool_bytes.labels(label).set_function(lambda: self.spool.bytes)
        self._metrics.dropped.labels(label).set_function(lambda: self.spool.dropped_frames)

    def _adopt_old_folder(self) -> None:
        old = self._settings.spool.folder / "live"  # the billing lane's folder before there was bulk
        if self.spool.options.lane is PushLane.BILLING and old.is_dir() and not self.spool.folder.exists():
            old.rename(self.spool.folder)

    def start(self) -> None:
        """Begin to push."""
        version = VersionMemory(self._settings.spool.folder / "version.json", self._clock)
        parts = UploaderParts(
            self.sender, version, self.dead_letters, self.ledger, self._metrics, self._clock, self.gate
        )
        gateway = self._settings.gateway
        self.uploader = Uploader(
            self.spool, parts, Backoff(gateway.min_backoff, gateway.max_backoff, random.Random())
        )
        self.task = asyncio.create_task(self.uploader.run(), name=f"push.{self.spool.options.lane}")

    async def watch(self) -> None:
        """Until the uploader fails; raises its error. It should never return."""
        assert self.task is not None
        await asyncio.shield(self.task)

    async def close(self) -> None:
        """Push what is left for a moment, then stop; the rest is on disk."""
        if self.task is not None and self.uploader is not None:
            if self.uploader.last_error is None and self.gate.reason() is None and not self.task.done():
                waiting = asyncio.create_task(self.spool.drained())
                await asyncio.wait({waiting, self.task}, timeout=DRAIN_SECONDS, return_when="FIRST_COMPLETED")
                waiting.cancel()
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.sender.close()
        await self.spool.close()
        await asyncio.to_thread(self.ledger.close)


class CollectorService:
    """The whole of `byoc collector run`."""

    def __init__(self, settings: CollectorSettings, clock: Clock | None = None, config: Path | None = None) -> None:
        self.settings = settings
        self.config = config  # the file that `settings` came from, to be read again when it changes
        self.clock = clock or SystemClock()
        self.metrics = CollectorMetrics()
        self.service = Service("collector", self.metrics.registry)
        self.shipping = Shipping(settings, PushLane.BILLING, self.clock, self.metrics)
        self.renewal = Renewal(self.shipping.identity, self.shipping.sender, self.metrics, self.clock)
        self.keeper = PolicyKeeper(self.shipping.gate, self.shipping.ledger, self.metrics)
        context = ScrapeContext(self.clock, self.shipping.spool, Horizon(self.clock), self.metrics)
        self._context = context
        self.pools: ScrapePools | None = None
        self.health_port = 0

    async def start(self) -> None:
        """Everything up; scraping begins whether or not the gateway can be reached. Raises kernel errors."""
        await self.shipping.open()
        self.service.on_close("shipping", self.shipping.close)
        await self.keeper.start(self.settings)
        self.pools = ScrapePools(
            self.settings.scrape_configs, self.settings.global_, self.keeper.live, self._context
        )
        self.service.on_close("scraping", self.pools.close)
        self.shipping.start()
        self.service.spawn("scrape", self.pools.run())
        self.service.spawn("identity", self.renewal.run())
        self.service.spawn("push", self.shipping.watch())
        self.reloader = reloader = Reloader(
            self.config, self.settings, self.keeper, self.pools, self.metrics, self.clock
        )
        self.service.spawn("reload", reloader.run())
        health = self.settings.health
        self.health_port = await serve_health(self.service, health.host, health.port)
        self.service.checks["push"] = self._why_not_pushing
        self.service.checks["shipping"] = self.shipping.gate.reason
        self.service.notes["settings"] = lambda: reloader.problem
        self.metrics.shipping_stopped.set_function(lambda: self.shipping.gate.reason() is not None)
        _log.info("collector_started", health_port=self.health_port, epoch=self.shipping.spool.epoch)

    def _why_not_pushing(self) -> str | None:
        uploader = self.shipping.uploader
        return self.renewal.problem or (uploader.last_error if uploader else "not started")

    async def run(self) -> None:
        """Until a signal. Raises Stop when a part of it failed."""
        try:
            await self.start()
        except BaseException:
            await self.service.shutdown()
            raise
        await self.service.run()


def make_policy(settings: CollectorSettings) -> Policy:
    """The policy of the settings, for a run that ends by itself. Blocking: the key of pseudonyms may be made.

    Raises PolicyRefused when a signed one does not hold: nothing may be sent then.
    """
    held = load_policy(settings)
    if held.problem is not None:
        raise PolicyRefused(held.problem)
    return held.policy


def lane_options(settings: CollectorSettings, lane: PushLane) -> LaneOptions:
    """Sizes of a lane; four segments at least, so that acknowledged ones make room."""
    history = lane is PushLane.HISTORY
    quota = settings.spool.history_quota if history else settings.spool.billing_quota
    return LaneOptions(lane, quota, min(settings.spool.segment, quota // 4), drop_oldest=not history)


def retention(settings: LeftSettings) -> Retention:
    """How long the ledger keeps what."""
    seconds = settings.minutes_kept, settings.hours_kept, settings.days_kept
    return Retention(*(round(one * 1000) for one in seconds))


def ledger_path(settings: CollectorSettings) -> Path:
    """Where the ledger of what left is."""
    return settings.spool.folder / "left.sqlite"


async def enrol_once(settings: CollectorSettings) -> str:
    """`byoc collector enrol`: who we are now. Raises IdentityRefused, EnrolmentFailed."""
    client = IdentityClient(settings.gateway, SystemClock())
    held = await client.enrol()
    return f"{held.identity.who} until {held.not_after.isoformat()}"


__all__ = ["CollectorService", "EnrolmentFailed", "Shipping", "enrol_once", "ledger_path", "make_policy"]
