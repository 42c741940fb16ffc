"""A vendor's process, a collector's process and four targets, on one storage."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import yaml

from console.demo.rows import raw_rows
from console.demo.witness import Row
from console.up import open_authority, open_lake
from console.wiring import Vendor, open_vendor
from kernel.clock import SystemClock
from kernel.identity.enrolment import EnrolmentTokens
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.api import Lake
from tests.chaos.judge import Verdict, judge
from tests.chaos.program import Program, until
from tests.chaos.storage import Storage
from tests.chaos.target import Page, Target
from tests.services.process import free_ports

T = TypeVar("T")
TENANT = Tenant(OrganizationId("org-a"), ProjectId("project-a"))


class World:
    """`vendor` and `collector` are started by the test; what they did is read from the storage itself."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.storage = storage
        self.config = folder / "vendor.yaml"
        self.vendor_folder = folder / "vendor"
        self.targets = [Target() for _ in range(4)]
        self.unsettled: list[Page] = []  # handed out last before a collector was killed
        self._clock = SystemClock()
        self._write_vendor(gateway_port := free_ports(1)[0])
        collector_config = self._write_collector(folder / "collector", gateway_port)
        self.vendor = Program(folder / "vendor.log", "console", "-c", str(self.config), "up", "--health-port", "0")
        self.collector = Program(
            folder / "collector.log", "console", "collector", "run", "-c", str(collector_config)
        )

    def _write_vendor(self, gateway_port: int) -> None:
        # The port is one of ours and free: the collector must find a vendor that was restarted.
        content = {
            "deployment": {**self.storage.deployment, "folder": str(self.vendor_folder)},
            "gateway": {"port": gateway_port, "host_names": ["localhost"]},
            "lake": {"commit_seconds": 0.5, "retry_seconds": 0.2},
            "up": {"gauge_seconds": 1.0},
            "usage": {"check_interval_seconds": 1.0},
        }
        self.config.write_text(yaml.safe_dump(content))

    def _write_collector(self, folder: Path, gateway_port: int) -> Path:
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
                "url": f"https://localhost:{gateway_port}",
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
            return authority, tokens.create(TENANT, CollectorId("collector-a"))
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
            through_ms = await lake.watermark(TENANT.organization) or 0
            return through_ms, await asyncio.to_thread(raw_rows, lake.tables, TENANT.organization)

        through_ms, rows = self.look(read)
        pages = [page for target in self.targets for page in list(target.pages)]
        return through_ms, judge(rows, pages, through_ms, self.unsettled)

    def expect_clean(self, after: str) -> None:
        """Nothing lost of what the lake says it is complete through, nothing twice, nothing altered."""
        through_ms, verdict = self.judge()
        found = f"after {after}, complete through {through_ms}: {verdict}"
        assert verdict.is_clean, found[:3000]

    def drained(self) -> None:
        """Wait until the lake says that it has everything up to now, while both programs run."""
        now_ms = self._clock.now_ms()

        async def is_drained(_: Vendor, lake: Lake) -> bool:
            while (await lake.watermark(TENANT.organization) or 0) < now_ms:
                self.vendor.check()
                self.collector.check()
                await asyncio.sleep(0.2)
            return True

        async def bounded(vendor: Vendor, lake: Lake) -> bool:
            return await asyncio.wait_for(is_drained(vendor, lake), 60)

        self.look(bounded)

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
        return self._clock.now_ms()

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


@contextmanager
def open_world(folder: Path, storage: Storage) -> Iterator[World]:
    world = World(folder, storage)
    try:
        yield world
    finally:
        world.close()
