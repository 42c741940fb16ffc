"""A vendor's processes, a collector's and four targets, on one storage."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from console.demo.rows import raw_rows
from console.demo.witness import Row
from console.up import open_lake
from console.wiring import Vendor, open_vendor
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.api import Lake
from metering.lake.horizon import Horizon, Source
from metering.lake.intervals import count
from metering.record import Lane
from tests.chaos.configs import enrol, write_collector, write_vendor
from tests.chaos.judge import Verdict, judge
from tests.chaos.length import PATIENCE_SECONDS
from tests.chaos.network import VENDOR, Network
from tests.chaos.program import Program, until
from tests.chaos.proof import verify
from tests.chaos.skewed import FileClock
from tests.chaos.storage import Storage
from tests.chaos.target import Page, Target
from tests.services.process import free_ports

T = TypeVar("T")

WHOLE: Mapping[str, Sequence[str]] = {"vendor": ()}
APART: Mapping[str, Sequence[str]] = {
    "gateway": ("gateway",),
    "lake": ("lake",),
    "rest": ("usage", "licences", "alerts", "provisioner"),
}
COLLECTOR = CollectorId("collector-a")
HALF_WRITTEN = Counter(damage=1)
TENANT = Tenant(OrganizationId("org-a"), ProjectId("project-a"))


class World:
    """`vendor` and `collector` are started by the test; what they did is read from the storage itself."""

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        network: Network | None = None,
        gateway: Mapping[str, Any] | None = None,
        spool: Mapping[str, Any] | None = None,
        parts: Mapping[str, Sequence[str]] = WHOLE,
    ) -> None:
        """`gateway`, `spool`: settings of the gateway and of the collector's spool beside the usual ones.

        `parts`: the vendor's processes by name, and which parts each runs; none: all of them.
        """
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
        # The port is one of ours and free: the collector must find a vendor that was restarted.
        host, address, port = (VENDOR, VENDOR, 443) if network else ("localhost", "127.0.0.1", free_ports(1)[0])
        self.gateway_url = f"https://{host}:{port}"
        listen = {"host": address, "port": port, "host_names": [host], **(gateway or {})}
        write_vendor(self.config, {**storage.deployment, "folder": str(self.vendor_folder)}, listen)
        config = self.collector_config = self.collector_folder / "collector.yaml"
        enrolled = asyncio.run(enrol(self.config, TENANT, COLLECTOR))
        write_collector(config, enrolled, self.gateway_url, [one.instance for one in self.targets], spool or {})
        hosts = (network.vendor, network.vpc) if network else (None, None)
        run = (
            "collector.running",
            str(config),
            "INFO",
        )  # what `byoc collector run` becomes: an exec loses the skew
        self.parts: dict[str, Program] = {}
        for name, only in parts.items():
            up = ("console", "-c", str(self.config), "up", "--health-port", "0", *_only(only))
            self.parts[name] = Program(folder / f"{name}.log", *_skewed(self.vendor_clock, *up), host=hosts[0])
        self.collector = Program(folder / "collector.log", *_skewed(self.clock, *run), host=hosts[1])

    @property
    def vendor(self) -> Program:
        """The vendor's one process."""
        return self.parts["vendor"]

    @property
    def programs(self) -> dict[str, Program]:
        """All that may be killed, by name."""
        return {**self.parts, "collector": self.collector}

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
        """Nothing lost of what the lake says it is complete through, nothing twice, nothing altered; and proven."""
        through_ms, verdict = self.judge()
        found = f"after {after}, complete through {through_ms}: {verdict}"
        assert verdict.is_clean, found[:3000]
        self.expect_proof(after, {})

    def expect_proof(self, after: str, given_up: Mapping[tuple[str, int], Counter[str]]) -> None:
        """`byoc collector verify` says what the lake and the test know, of every lane and boot.

        `given_up`: by (lane, epoch), how many numbers stand in gap records, by reason; nothing else does. What the
        lake has stored has a receipt, or waits for one: the collector was perhaps killed before it had it. The last
        number of a boot that ended in the middle of a write may stand in a gap record, though it was not promised.
        """

        async def read(_: Vendor, lake: Lake) -> Horizon:
            return await lake.horizon()

        horizon = self.look(read)  # first: what is proven grows while we look
        proof = verify(self.collector_config)
        text = f"after {after}:\n{proof.text}"[:3000]
        assert proof.holds, text
        running = {lane: max(epoch for of, epoch in proof.boots if of == lane) for lane, _ in proof.boots}
        recorded = {key: one.gaps for key, one in proof.boots.items() if one.gaps}
        half_written = {
            key for key, found in recorded.items() if found == HALF_WRITTEN and key[1] != running[key[0]]
        }
        assert {key: recorded[key] for key in recorded.keys() - half_written - given_up.keys()} == {}, text
        assert {key: recorded.get(key) for key in given_up} == dict(given_up), text
        for lane in (Lane.BILLING, Lane.BULK):
            source = horizon.sources.get(Source(TENANT, COLLECTOR, lane))
            for epoch, state in source.epochs if source else ():
                boot = proof.boots[lane.value, epoch]
                assert boot.last >= state.last, text
                assert boot.proven + boot.waiting >= count(state.intervals) - count(state.refused), text

    def drained(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the lake says that it has everything up to now, while both programs run."""
        now_ms = self.now_ms()

        async def is_drained(_: Vendor, lake: Lake) -> bool:
            while await complete_through(lake) < now_ms:
                for program in self.programs.values():
                    program.check()
                await asyncio.sleep(0.2)
            return True

        async def bounded(vendor: Vendor, lake: Lake) -> bool:
            return await asyncio.wait_for(is_drained(vendor, lake), seconds)

        self.look(bounded)

    def settled(self, seconds: float = PATIENCE_SECONDS) -> None:
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
        for target, number in zip(self.targets, before, strict=True):
            self.unsettled += target.pages[max(0, number - 1) :]

    def calm(self) -> None:
        """All programs run and none is to die: one that still was to is killed and started anew."""
        for name, program in self.programs.items():
            if program.runs and not program.is_doomed:
                continue
            if name == "collector":
                self.kill_collector()
            program.kill()
            program.start()

    def deaths(self) -> list[str]:
        """The steps at which programs died, of all their lives."""
        lines = [line for program in self.programs.values() for line in program.log.read_text().splitlines()]
        return [line.rpartition(" ")[2] for line in lines if line.startswith("crash point ")]

    def ensure_running(self) -> None:
        """All programs run, whatever an earlier test left, and the lake has caught up."""
        for program in self.programs.values():
            if not program.runs:
                program.start()
            program.send(signal.SIGCONT)
        # One that finds no broker at its start ends: a test takes servers away from those that are up.
        until("all parts up", lambda: all('"vendor_is_up"' in part.said() for part in self.parts.values()))
        self.drained()

    def close(self) -> None:
        for program in self.programs.values():
            program.kill()
        for target in self.targets:
            target.close()


async def complete_through(lake: Lake) -> int:
    """Ms: up to when the lake has everything, of both lanes; its own watermark is that of what is billed alone."""
    sources = (await lake.horizon()).sources
    lanes = [sources.get(Source(TENANT, COLLECTOR, lane)) for lane in (Lane.BILLING, Lane.BULK)]
    return min((state.complete_through_ms() or 0) if state else 0 for state in lanes)


def _only(parts: Sequence[str]) -> list[str]:
    return [word for part in parts for word in ("--only", part)]


def _skewed(clock: FileClock, *words: str) -> tuple[str, ...]:
    return "tests.chaos.skewed", str(clock.path), *words


@contextmanager
def open_world(
    folder: Path,
    storage: Storage,
    network: Network | None = None,
    gateway: Mapping[str, Any] | None = None,
    spool: Mapping[str, Any] | None = None,
    parts: Mapping[str, Sequence[str]] = WHOLE,
) -> Iterator[World]:
    world = World(folder, storage, network, gateway, spool, parts)
    try:
        yield world
    finally:
        world.close()
