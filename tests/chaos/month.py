"""The month run as programs that can be killed anywhere: closing the month, and handing its documents over.

Each is run by `multiprocessing` from a server that has imported everything once and runs no thread: a process of
its own for each life, which SIGKILL ends as it ends any other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from typer.testing import CliRunner

import billing.batch
from billing.cli import app
from console.months import Choice, close_everyone
from console.up import open_lake, open_meters
from console.wiring import Vendor, open_vendor
from kernel.clock import VirtualClock, from_ms, to_ms
from kernel.crashpoints import arm, watch
from kernel.ids import OrganizationId
from kernel.window import month
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.usage.api import HourCloser, LakeSource, UsageSettings, UsageStore

MONTH = "2026-10"
OCTOBER = month(MONTH)
CLOSED_MS = to_ms(datetime(2026, 11, 3, 9, 30, tzinfo=UTC))
METER = "searches"
CATALOGUE = f"""catalogue: test
version: 1
meters:
  - meter: {METER}
    description: Searches
    kind: counter-increase
    unit: searches
    series: [{{metric: searches_total}}]
"""
APPROVES = OrganizationId("beta")


@dataclass(frozen=True)
class Place:
    """Where a month lies: the vendor's folder, what is written, and its database (empty: in the folder)."""

    folder: Path
    database_url: str = ""
    now_ms: int = CLOSED_MS
    stripe: str = ""  # its address
    marketplace: str = ""

    @property
    def out(self) -> Path:
        """What the programs write but for the database."""
        return self.folder / "out"

    def vendor(self, now_ms: int | None = None) -> Vendor:
        os.environ["BYOC_USAGE__CATALOGUE"] = str(self.folder / "meters.yaml")
        if self.database_url:
            os.environ["BYOC_DEPLOYMENT__DATABASE__URL"] = self.database_url
        clock = VirtualClock(from_ms(self.now_ms if now_ms is None else now_ms))
        return open_vendor(self.folder / "vendor", None, clock)


Program = Callable[[Place], None]


def live(program: Program, place: Place, crash_at: str = "", passed: Path | None = None) -> None:
    """One life of a program. `passed`: where to note each crash point that it passes."""
    if passed is None:
        arm(crash_at)
        program(place)
        return
    names: list[str] = []
    watch(names.append)
    program(place)
    passed.write_text("\n".join(names))


def close_the_month(place: Place) -> None:
    """As finance does it: seal the hours and approve the draft of who asks for that, then close everybody.

    Without PDFs: those are made of the JSON alone, and written in the same way.
    """
    billing.batch.BATCH = 2  # two batches
    vendor = place.vendor()
    asyncio.run(_seal(vendor))
    _say(vendor, ("invoice", "approve", APPROVES, MONTH))
    asyncio.run(close_everyone(vendor, MONTH, place.out, Choice(pdf=False, processes=1), lambda *_: None))
    vendor.close_sync()


async def _seal(vendor: Vendor) -> None:
    lake = await open_lake(vendor)
    await closer_of(vendor, lake).close_window(APPROVES, OCTOBER)
    await lake.close()


def closer_of(vendor: Vendor, lake: Lake) -> HourCloser:
    """As `byoc close` has it."""
    source = LakeSource(lake, vendor.section("lake", LakeSettings).watermark_hold_seconds)
    settings = vendor.section("usage", UsageSettings)
    meters = open_meters(vendor, source, settings)
    return HourCloser(source, UsageStore(vendor.database()), settings, vendor.clock, meters=meters)


def hand_over(place: Place) -> None:
    """Documents as mails, an invoice to Stripe, hours to AWS Marketplace, by the commands."""
    vendor = place.vendor()
    os.environ |= {
        "AWS_ENDPOINT_URL": place.marketplace,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    place.out.mkdir(exist_ok=True)
    key = str(place.folder / "stripe.key")
    stripe = ("--customer", "cus_1", "--key-file", key, "--address", place.stripe)
    for words in (
        ("invoice", "deliver", "--to-folder", str(place.out / "mails"), "--to", "ap@example.com"),
        ("export", "stripe", "EXAMPLE-EU-2026-000003", *stripe),
        ("marketplace", "send", "beta"),
    ):
        _say(vendor, words)
    vendor.close_sync()


def _say(vendor: Vendor, words: Sequence[str]) -> None:
    result = CliRunner().invoke(app, list(words), obj=vendor, catch_exceptions=False)
    if result.exit_code:
        raise AssertionError(f"{words}: {result.output}")
