"""Two collectors whose frames went through gateway, lake and usage into an invoice, and what they kept of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from typer.testing import CliRunner

from billing.cli import app
from billing.proof.held import Held
from billing.proof.verify import Verified, verify_bundle
from collector.left_meta import FrameMeta
from collector.metrics import CollectorMetrics
from collector.settings import load_collector_settings
from collector.shipping import Shipping
from collector.spool.kept import KeptLane, read_keys
from collector.spool.options import Draft
from collector.wire.headers import PushLane
from console.up import open_lake
from console.wiring import Vendor
from kernel.clock import SystemClock, VirtualClock, from_ms, to_ms
from kernel.ids import CollectorId, ProjectId
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.api import Lake
from metering.lake.compact import Compactor
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.meters.catalogue import parse_catalogue
from metering.meters.closer import MeterCloser
from metering.meters.store import MeterStore
from metering.usage.api import HourCloser, LakeSource, UsageSettings, UsageStore
from metering.usage.meter import LICENCE_METER, TARGET_UP
from tests.billing.deals import contract_text
from tests.collector.world import write_config
from tests.gateway.world import GatewayWorld, gateway_world
from tests.identity.world import ACME
from tests.wire.frames.world import Target, entry

STEP_MS = 240_000  # below the staleness limit of 300 s
Values = Mapping[bytes, float]
Page = tuple[int, dict[bytes, float]]  # ms, what was scraped then
CATALOGUE = """
catalogue: test
version: 1
meters:
  - {meter: searches, description: x, kind: counter-increase, unit: searches, group_by: [user],
     series: [{metric: searches_total}]}
  - {meter: users, description: x, kind: unique-count, count: user, unit: users, series: [{metric: searches_total}]}
  - {meter: rows-peak, description: x, kind: peak, unit: rows, series: [{metric: loaded_rows}]}
  - {meter: rows-p95, description: x, kind: percentile, percentile: 95, denominator: observed, unit: rows,
     series: [{metric: loaded_rows}]}
  - {meter: rows-latest, description: x, kind: latest, unit: rows, series: [{metric: loaded_rows}]}
  - {meter: rows-hours, description: x, kind: gauge-integral, per: hour, unit: row-hours,
     series: [{metric: loaded_rows}]}
"""
REDEFINED = (
    CATALOGUE.replace("version: 1", "version: 2")
    .replace("[{metric: loaded_rows}]", "[{metric: loaded_rows, where: {cluster: c1}}]")
    .replace("group_by: [user],", "")
)
CLUSTERS = {"a": "c1", "b": "c2"}  # by collector
METERS = ("searches", "users", "rows-peak", "rows-p95", "rows-latest", "rows-hours")
RESET_HOUR = 15  # of the counters: what is counted begins again, higher than it was


def charges(start: str, of_row_hours: str = '{kind: per-unit, unit: "0.01"}') -> str:
    """A charge for each meter, a cent each."""
    models = dict.fromkeys(METERS, '{kind: per-unit, unit: "0.01"}') | {"rows-hours": of_row_hours}
    return "charges:\n" + "".join(
        f"  - {{charge: {name}, description: {name}, meter: {name}, steps: [{{start: {start}, model: {model}}}]}}\n"
        for name, model in models.items()
    )


def gauge(cluster: str, component: str, instance: str) -> bytes:
    labels = {"cluster": cluster, "component": component, "instance": instance, "job": "inventory"}
    return entry(LICENCE_METER.metric, 2, **labels)


def last_days() -> Window:
    """The last two days of the month before this one, UTC."""
    first = SystemClock().now().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Window(to_ms(first) - 2 * DAY_MS, to_ms(first))


@dataclass(frozen=True)
class Plan:
    """What differs of a world. `terms`: YAML of the contract; `of_b`: collector-b's project.

    `backfilled`: the hours of the period that collector-a sends in the history lane.
    """

    terms: str = ""
    of_b: str = "prod"
    backfilled: frozenset[int] = frozenset()
    redefined: bool = False  # the last half day is closed by another version of the catalogue


@dataclass
class Billed:
    """A folder with the vendor side, `spool-a` and `spool-b`, and `bundle`."""

    folder: Path
    period: Window
    authority_pem: bytes

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def copy(self, folder: Path) -> Billed:
        """What a customer has, to be spoiled."""
        for name in ("bundle", "spool-a", "spool-b"):
            shutil.copytree(self.folder / name, folder / name)
        return Billed(folder, self.period, self.authority_pem)

    def verify(self, *names: str, lake: Path | None = None) -> Verified:
        def open_spools(bundled: bytes) -> list[KeptLane]:
            keys = read_keys(bundled, (), self.authority_pem)
            return [KeptLane(self.folder / name, keys, LICENCE_METER.metric, TARGET_UP) for name in names]

        return verify_bundle(self.bundle, self.authority_pem, Held(open_spools if names else None, lake))


def searches(cluster: str, instance: str, user: int) -> bytes:
    labels = {"cluster": cluster, "instance": instance, "job": "inventory", "user": f"user-{user}"}
    return entry("searches_total", 1, **labels)


def begun(values: Values, at_ms: int, period: Window) -> dict[bytes, int]:
    """When the counters of a scrape began."""
    is_reset = at_ms >= period.start_ms + RESET_HOUR * HOUR_MS
    start_ms = period.start_ms + (RESET_HOUR * HOUR_MS - 60_000 if is_reset else -2 * HOUR_MS)
    return {one: start_ms for one in values if b"searches_total" in one}


def scrapes(period: Window, cluster: str, instance: str, more_ms: int = 0) -> list[Page]:
    """From an hour before the period on: a level that changes, two hours of silence, a component that ends.

    `more_ms`: how long it goes on after the period.
    """
    up, query, index = (
        entry(TARGET_UP, 2, instance=instance, job="inventory"),
        gauge(cluster, "query", instance),
        gauge(cluster, "index", instance),
    )
    found = []
    for at_ms in range(period.start_ms - HOUR_MS, period.end_ms + more_ms, STEP_MS):
        hour = (at_ms - period.start_ms) // HOUR_MS
        if hour in {20, 21}:
            continue
        rows = entry("loaded_rows", 2, cluster=cluster, instance=instance, job="inventory")
        values = {up: 1.0, query: 16.0 if hour < 10 else 26.5, entry("byoc_other", of=cluster): float(hour)}
        values |= {
            rows: float(1000 + hour % 7),
            searches(cluster, instance, hour % 3): 3.0 * (at_ms % 10**9 // 10**5),
        }
        if hour < 30:
            values[index] = 4.0
        found.append((at_ms, values))
    return found


async def ship(world: GatewayWorld, folder: Path, plan: Plan, period: Window) -> None:
    """Collector a or b, through a real spool and a real gateway, what is backfilled last."""
    name = folder.name
    pages = scrapes(period, CLUSTERS[name], f"{name}:1")
    late = plan.backfilled if name == "a" else frozenset[int]()
    config = install(world, folder, plan.of_b if name == "b" else ACME.project)
    for lane in (PushLane.BILLING, PushLane.HISTORY):
        is_late = lane is PushLane.HISTORY
        mine = [page for page in pages if ((page[0] - period.start_ms) // HOUR_MS in late) == is_late]
        if mine:
            await push(shipping_of(config, lane), mine, period)


def install(world: GatewayWorld, folder: Path, project: str) -> Path:
    """A collector with a token; its configuration."""
    who, collector = replace(ACME, project=ProjectId(project)), CollectorId(f"collector-{folder.name}")
    folder.mkdir()
    (folder / "ca.pem").write_bytes(world.identity.authority.certificate_pem)
    (folder / "token").write_text(world.identity.tokens.create(who, collector))
    return write_config(folder, world.url, spool={"linger": "50ms", "segment": "64KB"})


def shipping_of(config: Path, lane: PushLane) -> Shipping:
    return Shipping(load_collector_settings(config), lane, SystemClock(), CollectorMetrics())


async def push(shipping: Shipping, pages: list[Page], period: Window, each: int = 90) -> None:
    """A push for `each` pages, which are six hours or so."""
    await shipping.identity.ensure()
    await shipping.open()
    shipping.start()
    target = Target(stream=7)
    for start in range(0, len(pages), each):
        drafts = []
        for at_ms, values in pages[start : start + each]:
            target.now_ms = at_ms - 1000
            tick, _ = target.scrape(values, starts=begun(values, at_ms, period))
            blocks = target.encoder.encode(tick, shipping.spool.generation)
            drafts.append(Draft(blocks, FrameMeta().render(), sum(block.samples for block in blocks), at_ms))
        await asyncio.gather(*(shipping.spool.append(draft, shipping.spool.generation) for draft in drafts))
    await shipping.spool.drained()
    await shipping.close()


async def bill(folder: Path, plan: Plan | None = None) -> Billed:
    """Everything up to the bundle of the month before this one."""
    period, plan = last_days(), plan or Plan()
    async with gateway_world(folder) as world:
        vendor = Vendor.embedded(folder, VirtualClock(from_ms(period.end_ms + 40 * DAY_MS)))
        assert isinstance(vendor, Vendor)
        lake = await open_lake(vendor)
        for name in ("a", "b"):
            await ship(world, folder / name, plan, period)
            (folder / name / "spool").rename(folder / f"spool-{name}")
            await LakeWriter(lake, world.log).drain()
        assert await Compactor(lake.places, LakeSettings()).compact_one(least_files=2)
        noon_ms = period.end_ms - DAY_MS // 2
        first_ms = noon_ms if plan.redefined else period.end_ms
        closed = Window(period.start_ms - HOUR_MS, first_ms)
        await closer_of(vendor, lake).close_window(ACME.organization, closed)
        if plan.redefined:
            again = closer_of(vendor, lake, REDEFINED)
            await again.close_window(ACME.organization, Window(noon_ms, period.end_ms))
        await lake.close()
    authority_pem = world.identity.authority.certificate_pem
    month = datetime.fromtimestamp(period.start_ms / 1000, UTC)
    await asyncio.to_thread(_issue, folder, vendor, month, plan.terms)
    return Billed(folder, period, authority_pem)


def closer_of(vendor: Vendor, lake: Lake, catalogue: str = CATALOGUE) -> HourCloser:
    """Of the licence and of every meter."""
    source, store = LakeSource(lake, 86_400.0), UsageStore(vendor.database())
    meters = MeterCloser(
        source, MeterStore(vendor.database()), parse_catalogue(catalogue, "test"), vendor.clock, 300_000
    )
    return HourCloser(source, store, UsageSettings(), vendor.clock, meters=meters)


def _issue(folder: Path, vendor: Vendor, first: datetime, terms: str) -> None:
    term = f"{first:%Y-%m-%d}", f"{first + timedelta(days=365):%Y-%m-%d}"
    (folder / "contract.yaml").write_text(contract_text(term=term, more=charges(term[0]) + terms))
    say(vendor, "contract", "add", str(folder / "contract.yaml"))
    say(vendor, "invoice", "finalize", "acme", f"{first:%Y-%m}")
    number = f"EXAMPLE-EU-{vendor.clock.now():%Y}-000002"
    say(vendor, "invoice", "bundle", number, "--out", str(folder / "bundle"))


def say(vendor: Vendor, *words: str) -> str:
    """A command of the vendor, whose catalogue is the one above; it succeeds."""
    catalogue = vendor.folder / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    named = {"BYOC_USAGE__CATALOGUE": str(catalogue)}
    result = CliRunner().invoke(app, words, obj=vendor, catch_exceptions=False, env=named)
    assert result.exit_code == 0, result.output
    return result.output
