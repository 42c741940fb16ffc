"""A vendor's process, a collector's process and four targets, on one storage."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import yaml

from console.demo.rows import raw_rows
from console.demo.witness import Row
from console.up import open_authority, open_lake
from console.wiring import Vendor, open_vendor
from kernel.identity.enrolment import EnrolmentTokens
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.api import Lake
from metering.lake.horizon import Source
from metering.record import Lane
from tests.chaos.judge import Verdict, judge
from tests.chaos.network import VENDOR, Network
from tests.chaos.program import Program, until
from tests.chaos.skewed import FileClock
from tests.chaos.storage import Storage
from tests.chaos.target import Page, Target
from tests.services.process import free_ports

T = TypeVar("T")

COLLECTOR = CollectorId("collector-a")
TENANT = Tenant(OrganizationId("org-a"), ProjectId("project-a"))


class World:
    """`vendor` and `collector` are started by the test; what they did is read from the storage itself."""

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        network: Network | None = None,
        gateway: Mapping[str, Any] | None = None,
    ) -> None:
        """`gateway`: settings of it beside the usual ones."""
        self.storage = storage
        self.network = network
        self.config = folder / "vendor.yaml"
        self.vendor_folder = folder / "vendor"
        self.collector_folder = folder / "collector"
        self.unsettled: list[Page] = []  # handed out last before a collector was killed
        self.clock = FileClock(folder / "customer-clock")  # of the collector and the targets
        self.vendor_clock = FileClock(folder / "vendor-clock")
        for clock in (self.clock, self.vendor_clock):
            clock.step_to(0)
        with network.in_vpc() if network else nullcontext():
            self.targets = [Target(self.clock) for _ in range(4)]
        self._gateway_host, port = (VENDOR, 443) if network else ("localhost", free_ports(1)[0])
        self.gateway_url = f"https://{self._gateway_host}:{port}"
        self._write_vendor(port, gateway or {})
        config = self._write_collector(self.collector_folder)
        hosts = (network.vendor, network.vpc) if network else (None, None)
        up = ("console", "-c", str(self.config), "up", "--health-port", "0")
        run = ("console", "collector", "run", "-c", str(config))
        self.vendor = Program(folder / "vendor.log", *_skewed(self.vendor_clock, *up), host=hosts[0])
        self.collector = Program(folder / "collector.log", *_skewed(self.clock, *run), host=hosts[1])

    def _write_vendor(self, gateway_port: int, gateway: Mapping[str, Any]) -> None:
        # The port is one of ours and free: the collector must find a vendor that was restarted.
        content = {
            "deployment": {**self.storage.deployment, "folder": str(self.vendor_folder)},
            "gateway": {
                "host": VENDOR if self.network else "127.0.0.1",
                "port": gateway_port,
                "host_names": [self._gateway_host],
                **gateway,
            },
            "lake": {"commit_seconds": 0.5, "retry_seconds": 0.2},
            "up": {"gauge_seconds": 1.0},
            "usage": {"check_interval_seconds": 1.0},
        }
        self.config.write_text(yaml.safe_dump(content))

    def _write_collector(self, folder: Path) -> Path:
        folder.mkdir()
        authority, token = asyncio.run(self._enrol())
        (folder / "ca.pem").write_bytes(authority)
        (folder / "token").write_text(token)
        targets = [target.instance for target in self.targets]
        content = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "chaos", "static_configs": [{"targets": targets}]}],
            "policy": {"allow": [{"metrics": ["up", "chaos_*", "scrape_*"], "labels": ["*"], "pseudonyms": []}]},
            "gateway": {
                "url": self.gateway_url,
                "ca_file": "ca.pem",
                "token_file": "token",
                "timeout": "5s",
                "min_backoff": "100ms",
                "max_backoff": "500ms",
            },
            "health": {"port": 0},
        }
        path = folder / "collector.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    async def _enrol(self) -> tuple[bytes, str]:
        vendor = open_vendor(None, self.config)
        try:
            authority = open_authority(vendor).certificate_pem
            tokens = EnrolmentTokens(vendor.database(), vendor.clock, vendor.audit())
            return authority, tokens.create(TENANT, COLLECTOR)
        finally:
            await vendor.close()

    # -- what happened ---------------------------------------------------------------------------------------

    def look(self, work: Callable[[Vendor, Lake], Awaitable[T]]) -> T:
        """Ask the storage, past the vendor's process."""

        async def ask() -> T:
            vendor = open_vendor(None, self.config)
            lake = await open_lake(vendor)
            try:
                return await work(vendor, lake)
            finally:
                await lake.close()
                await vendor.close()

        return asyncio.run(ask())

    def judge(self) -> tuple[int, Verdict]:
        """How far (ms) the lake says it is complete, and whether that is so."""

        async def read(_: Vendor, lake: Lake) -> tuple[int, list[Row]]:
            through_ms = await complete_through(lake)
            return through_ms, await asyncio.to_thread(raw_rows, lake.tables, TENANT.organization)

        through_ms, rows = self.look(read)
        pages = [page for target in self.targets for page in list(target.pages)]
        return through_ms, judge(rows, pages, through_ms, self.unsettled)

    def expect_clean(self, after: str) -> None:
        """Nothing lost of what the lake says it is complete through, nothing twice, nothing altered."""
        through_ms, verdict = self.judge()
        found = f"after {after}, complete through {through_ms}: {verdict}"
        assert verdict.is_clean, found[:3000]

    def drained(self, seconds: float = 60.0) -> None:
        """Wait until the lake says that it has everything up to now, while both programs run."""
        now_ms = self.now_ms()

        async def is_drained(_: Vendor, lake: Lake) -> bool:
            while await complete_through(lake) < now_ms:
                self.vendor.check()
                self.collector.check()
                await asyncio.sleep(0.2)
            return True

        async def bounded(vendor: Vendor, lake: Lake) -> bool:
            return await asyncio.wait_for(is_drained(vendor, lake), seconds)

        self.look(bounded)

    def settled(self, seconds: float = 60.0) -> None:
        """End the collector in peace, then wait until every page that was handed out is in the lake.

        For clocks that step: what the lake is complete through says nothing then.
        """
        before = [len(target.pages) for target in self.targets]
        until(
            "more pages", lambda: all(len(target.pages) > n for target, n in zip(self.targets, before, strict=True))
        )
        self.collector.end()
        for target in self.targets:  # one that is being fetched at the end is given up
            self.unsettled += target.pages[-1:]
        deadline = time.monotonic() + seconds
        while not (verdict := self._judge_all()).is_clean:
            assert time.monotonic() < deadline, f"not settled in {seconds:g} s: {verdict}"[:3000]

    def _judge_all(self) -> Verdict:
        async def read(_: Vendor, lake: Lake) -> list[Row]:
            return await asyncio.to_thread(raw_rows, lake.tables, TENANT.organization)

        pages = [page for target in self.targets for page in list(target.pages)]
        return judge(self.look(read), pages, sys.maxsize, self.unsettled)

    def vendor_metric(self, name: str) -> float | None:
        """A metric of the running vendor, None while it does not answer."""
        try:
            port = json.loads((self.vendor_folder / "endpoints.json").read_text())["health_port"]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                text = page.read().decode()
        except (OSError, ValueError):
            return None
        found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0]) if found else None

    def now_ms(self) -> int:
        """By the customer's clock."""
        return self.clock.now_ms()

    # -- what is done to it ----------------------------------------------------------------------------------

    def kill_collector(self) -> None:
        """`kill -9`; the last page of each target was perhaps not synced, so it may be missing as a whole.

        So may one that was asked for before the kill, and made after it.
        """
        self.collector.kill()
        before = [len(target.pages) for target in self.targets]
        killed_ms = self.now_ms()
        until("pages under way", lambda: self.now_ms() > killed_ms + 300)
        for target, count in zip(self.targets, before, strict=True):
            self.unsettled += target.pages[max(0, count - 1) :]

    def ensure_running(self) -> None:
        """Both programs run, whatever an earlier test left, and the lake has caught up."""
        for program in (self.vendor, self.collector):
            if not program.runs:
                program.start()
            program.send(signal.SIGCONT)
        self.drained()

    def close(self) -> None:
        for program in (self.collector, self.vendor):
            program.kill()
        for target in self.targets:
            target.close()


async def complete_through(lake: Lake) -> int:
    """Ms: up to when the lake has everything, of both lanes; its own watermark is that of what is billed alone."""
    sources = (await lake.horizon()).sources
    lanes = [sources.get(Source(TENANT, COLLECTOR, lane)) for lane in (Lane.BILLING, Lane.BULK)]
    return min((state.complete_through_ms() or 0) if state else 0 for state in lanes)


def _skewed(clock: FileClock, *words: str) -> tuple[str, ...]:
    return "tests.chaos.skewed", str(clock.path), *words


@contextmanager
def open_world(
    folder: Path, storage: Storage, network: Network | None = None, gateway: Mapping[str, Any] | None = None
) -> Iterator[World]:
    world = World(folder, storage, network, gateway)
    try:
        yield world
    finally:
        world.close()
