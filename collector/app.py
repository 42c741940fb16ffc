"""Wiring of the running collector."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from collector.errors import EnrolmentFailed, PolicyRefused
from collector.exposition import choose_reader
from collector.identity.client import IdentityClient
from collector.identity.renewal import Renewal
from collector.lanes import BillingNames
from collector.memory import give_back
from collector.metrics import CollectorMetrics
from collector.policy import Policy
from collector.policy_keeper import PolicyKeeper, load_policy
from collector.reload import Reloader
from collector.scrape.context import Lane, ScrapeContext
from collector.scrape.horizon import Horizon
from collector.scrape.pool import ScrapePools
from collector.settings import CollectorSettings
from collector.shipping import Shipping, Way, ledger_path
from collector.targets_page import target_pages
from collector.targets_view import view_jobs
from collector.wire.headers import PushLane
from kernel.clock import Clock, SystemClock
from kernel.health import serve_health
from kernel.logs import logger
from kernel.service import Service

if TYPE_CHECKING:
    from collector.remote_write.writer import RemoteWrite

_log = logger("collector")


class CollectorService:
    """The whole of `byoc collector run`. Raises InvalidInput when it can't read pages as `reader` says."""

    def __init__(self, settings: CollectorSettings, clock: Clock | None = None, config: Path | None = None) -> None:
        self.settings = settings
        choose_reader(settings.reader)
        self.config = config  # the file that `settings` came from, to be read again when it changes
        self.clock = clock or SystemClock()
        self.metrics = CollectorMetrics()
        self.service = Service("collector", self.metrics.registry)
        self.way = way = Way(settings, self.clock, self.metrics)
        self.shipping = Shipping(settings, PushLane.BILLING, self.clock, self.metrics, way)
        self.bulk = Shipping(settings, PushLane.BULK, self.clock, self.metrics, way)
        self.renewal = Renewal(way.identity, way, self.metrics, self.clock)
        self.keeper = PolicyKeeper(way.gate, way.ledger, self.metrics)
        lanes = [
            Lane(lane.spool.options.lane, lane.spool, Horizon(self.clock)) for lane in (self.shipping, self.bulk)
        ]
        billing = BillingNames(settings.lanes.billing)
        self.receivers = self._make_receivers() if settings.remote_write else None
        self._context = ScrapeContext(self.clock, lanes, self.metrics, billing, self.receivers)
        self.pools: ScrapePools | None = None
        self.health_port = 0

    async def start(self) -> None:
        """Everything up; scraping begins whether or not the gateway can be reached. Raises kernel errors."""
        await asyncio.to_thread(self.way.ledger.open)
        self.service.on_close("ledger", self.way.close)
        for lane in (self.shipping, self.bulk):
            await lane.open()
            self.service.on_close(f"shipping.{lane.spool.options.lane}", lane.close)
        if self.receivers is not None:
            await self.receivers.open()
            self.service.on_close("remote_write", self.receivers.close)
        await self.keeper.start(self.settings)
        self.pools = ScrapePools(
            self.settings.scrape_configs, self.settings.global_, self.keeper.live, self._context
        )
        self.service.on_close("scraping", self.pools.close)
        self.shipping.start()
        self.bulk.start()
        self.service.spawn("scrape", self.pools.run())
        if self.receivers is not None:
            self.service.spawn("remote_write", self.receivers.run())
        self.service.spawn("identity", self.renewal.run())
        self.service.spawn("push.billing", self.shipping.watch())
        self.service.spawn("push.bulk", self.bulk.watch())
        self.reloader = reloader = Reloader(
            self.config, self.settings, self.keeper, self.pools, self.metrics, self.clock
        )
        self.service.spawn("reload", reloader.run())
        self.service.spawn("memory", give_back(self.clock))
        health = self.settings.health
        pools = self.pools
        pages = target_pages(lambda: view_jobs(pools.jobs), self.service.amiss, self.clock)
        self.health_port = await serve_health(self.service, health.host, health.port, pages)
        self.service.checks["push"] = self._why_not_pushing
        self.service.checks["shipping"] = self.way.gate.reason
        self.service.notes["remote_write"] = self._what_receivers_refuse
        self.service.notes["settings"] = lambda: reloader.problem
        self.metrics.shipping_stopped.set_function(lambda: self.way.gate.reason() is not None)
        _log.info("collector_started", health_port=self.health_port, epoch=self.shipping.spool.epoch)

    def _make_receivers(self) -> RemoteWrite:
        from collector.remote_write.writer import RemoteWrite  # with a whole HTTP client, 10 MB

        way = self.way
        return RemoteWrite(
            self.settings.remote_write, self.settings.spool.folder, self.clock, self.metrics, way.gate, way.ledger
        )

    def _what_receivers_refuse(self) -> str | None:
        return "; ".join(self.receivers.problems()) or None if self.receivers is not None else None

    def _why_not_pushing(self) -> str | None:
        for uploader in (self.shipping.uploader, self.bulk.uploader):
            why = self.renewal.problem or (uploader.last_error if uploader else "not started")
            if why is not None:
                return why
        return None

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


async def enrol_once(settings: CollectorSettings) -> str:
    """`byoc collector enrol`: who we are now. Raises IdentityRefused, EnrolmentFailed."""
    client = IdentityClient(settings.gateway, SystemClock())
    held = await client.enrol()
    return f"{held.identity.who} until {held.not_after.isoformat()}"


__all__ = ["CollectorService", "EnrolmentFailed", "Shipping", "enrol_once", "ledger_path", "make_policy"]
