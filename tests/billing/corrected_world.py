"""A month that is billed, two hours of it that arrive later, and the next month's invoice that corrects it.

The term has three days: the last two of a month, and the first of the next. Collector a holds back two hours until
the first invoice was issued. When the term ends, its capacity true-up is due.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from collector.wire.headers import PushLane
from console.up import open_lake
from console.wiring import Vendor
from kernel.clock import SystemClock, VirtualClock, from_ms, to_ms
from kernel.window import DAY_MS, HOUR_MS, Window
from metering.lake.writer import LakeWriter
from tests.billing.billed_world import (
    CLUSTERS,
    Billed,
    charges,
    closer_of,
    install,
    push,
    say,
    scrapes,
    shipping_of,
)
from tests.billing.deals import contract_text
from tests.gateway.world import gateway_world
from tests.identity.world import ACME

PART_MS = 2 * DAY_MS  # of a true-up that is held against frames at once
HELD_BACK = frozenset({40, 41})  # hours of the period that collector a sends late
TRUE_UP = "capacity_true_up: {every: quarter}\n"
EACH = '{kind: per-unit, unit: "0.01"}'
CHEAPER = '{kind: volume, tiers: [{up_to: "91000", unit: "1"}, {up_to: null, unit: "0.5"}]}'  # late, more than that


@dataclass(frozen=True)
class Deal:
    """What differs of a world. `terms`: YAML of the contract; `of_row_hours`: their price model."""

    terms: str = ""
    of_row_hours: str = EACH


def days() -> Window:
    """The last two days of the month before the last one, UTC: the first of the last one is past too."""
    this = SystemClock().now().astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    first = (this - timedelta(days=1)).replace(day=1)
    return Window(to_ms(first) - 2 * DAY_MS, to_ms(first))


async def bill_and_correct(folder: Path, deal: Deal) -> Billed:
    """Everything up to the bundle of the document that corrects the first month."""
    period = days()
    async with gateway_world(folder) as world:
        vendor = Vendor.embedded(folder, VirtualClock(from_ms(period.end_ms + 70 * DAY_MS)))
        assert isinstance(vendor, Vendor)
        clock = vendor.clock
        assert isinstance(clock, VirtualClock)
        lake = await open_lake(vendor)
        held = []
        for name in ("a", "b"):
            config = install(world, folder / name, ACME.project)
            pages = scrapes(period, CLUSTERS[name], f"{name}:1", more_ms=DAY_MS)
            late = [page for page in pages if name == "a" and _hour(page[0], period) in HELD_BACK]
            held += [(config, late)] if late else []
            await push(shipping_of(config, PushLane.BILLING), [page for page in pages if page not in late], period)
            await LakeWriter(lake, world.log).drain()
        closer = closer_of(vendor, lake)
        await closer.close_window(ACME.organization, Window(period.start_ms - HOUR_MS, period.end_ms + DAY_MS))
        await asyncio.to_thread(_first, folder, vendor, period, deal)
        for config, late in held:
            await push(shipping_of(config, PushLane.BILLING), late, period, each=len(late) // 2)
        await LakeWriter(lake, world.log).drain()
        clock.step_wall(40 * 86_400)
        await closer.close_window(ACME.organization, Window(period.start_ms - HOUR_MS, period.end_ms + DAY_MS))
        await lake.close()
    for name in ("a", "b"):
        (folder / name / "spool").rename(folder / f"spool-{name}")
    await asyncio.to_thread(_second, folder, vendor, period)
    return Billed(folder, period, world.identity.authority.certificate_pem)


def _hour(at_ms: int, period: Window) -> int:
    return (at_ms - period.start_ms) // HOUR_MS


def _first(folder: Path, vendor: Vendor, period: Window, deal: Deal) -> None:
    start = datetime.fromtimestamp(period.start_ms / 1000, UTC)
    term = f"{start:%Y-%m-%d}", f"{start + timedelta(days=3):%Y-%m-%d}"
    more = charges(term[0], deal.of_row_hours) + deal.terms
    (folder / "contract.yaml").write_text(contract_text(term=term, more=more))
    say(vendor, "contract", "add", str(folder / "contract.yaml"))
    say(vendor, "invoice", "finalize", "acme", f"{start:%Y-%m}")


def _second(folder: Path, vendor: Vendor, period: Window) -> None:
    month = f"{datetime.fromtimestamp(period.end_ms / 1000, UTC):%Y-%m}"
    said = say(vendor, "invoice", "finalize", "acme", month)
    say(vendor, "invoice", "checkpoint", "--month", month)
    numbers = re.findall(r"EXAMPLE-EU-[0-9]{4}-(?:CN)?[0-9]{6}", said)
    number = max(numbers, key=lambda one: ("CN" in one, one))
    say(vendor, "invoice", "bundle", number, "--out", str(folder / "bundle"))
