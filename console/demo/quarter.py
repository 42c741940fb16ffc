"""`make focus`: three months of the simulated history, closed one after the other, and exported as FOCUS.

Samples go through log and lake, hours are sealed, documents issued as by `byoc close`; the clock alone is virtual.
In the second month some usage of the first becomes known, so that its invoice has a correction; the invoice of the
third is void and issued again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from billing.api import ContractBook, Receivables
from billing.cli import app
from console.demo.history import INSTANCE, Row, rows
from console.months import Choice, close_everyone
from console.up import open_lake
from console.wiring import Vendor, open_vendor
from kernel.clock import VirtualClock
from kernel.errors import ByocError
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.window import DAY_MS, Window, month
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import HISTORY_TOPIC, LIVE_TOPIC, BatchHeader, LabelSet, Lane, encode_record, make_batch
from metering.record import Sequence as Numbered
from metering.usage.api import HourCloser, LakeSource, UsageSettings, UsageStore

MONTHS = ("2026-07", "2026-08", "2026-09")
OWNER = OrganizationId("harbor")
TENANT = Tenant(OWNER, ProjectId("prod"))
LATE = Window(month(MONTHS[0]).start_ms + 19 * DAY_MS, month(MONTHS[0]).start_ms + 20 * DAY_MS)
PUSH_ROWS = 20_000
CONTRACT = """contract: harbor-2026
organization: harbor
legal_entity: {id: example-eu, name: Example Europe GmbH, address: [Street 1, Berlin], tax_id: DE1}
customer: {name: Harbor Ltd, address: [High Street 2, London]}
currency: EUR
term: {start: 2026-07-01, end: 2027-07-01}
commitment:
  - {start: 2026-07-01, vcpu: 16}
  - {start: 2026-09-01, vcpu: 18}
price_per_vcpu_year: "900.00"
on_demand: true
tax: {category: S, rate: "19"}
"""


async def play(vendor: Vendor, out: Path) -> None:
    """Everything up to the export; documents go to `out`."""
    clock = vendor.clock
    assert isinstance(clock, VirtualClock)
    ContractBook(vendor.database(), clock, vendor.audit()).add_contract(CONTRACT, "harbor.yaml", "demo")
    store, settings = UsageStore(vendor.database()), vendor.section("usage", UsageSettings)
    hold_seconds = vendor.section("lake", LakeSettings).watermark_hold_seconds
    log = MemoryLog(clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    for number, name in enumerate(MONTHS):
        window = month(name)
        clock.step_wall((window.end_ms + 4 * DAY_MS - clock.now_ms()) / 1000)
        arrived = [row for row in rows(window) if row.timestamp_ms not in LATE]
        if number == 1:
            arrived += rows(LATE)
        lake = await open_lake(vendor)
        await _append(log, number, arrived, window.end_ms)
        await LakeWriter(lake, log).drain()
        if number == 1:
            closer = HourCloser(LakeSource(lake, hold_seconds), store, settings, clock)
            await closer.close_window(OWNER, LATE)
        await lake.close()
        await close_everyone(vendor, name, out, Choice(), lambda *_: None)
    receivables = Receivables(vendor.database(), clock, vendor.audit(), "demo")
    [last] = [one.invoice.number for one in receivables.statement(OWNER) if one.invoice.period == MONTHS[-1]]
    receivables.void(last, "wrong address")
    await close_everyone(vendor, MONTHS[-1], out, Choice(), lambda *_: None)
    await vendor.close()


async def _append(log: MemoryLog, epoch: int, arrived: Sequence[Row], until_ms: int) -> None:
    writer = await log.writer()
    for number, start in enumerate(range(0, len(arrived), PUSH_ROWS), start=1):
        part = arrived[start : start + PUSH_ROWS]
        header = BatchHeader(
            TENANT,
            CollectorId("history"),
            Lane.BILLING,
            until_ms,
            "0" * 64,
            Numbered(epoch + 1, number),
            complete_through_ms=until_ms if start + PUSH_ROWS >= len(arrived) else part[-1].timestamp_ms,
        )
        batch = make_batch((_labels(row), row.timestamp_ms, float(row.value)) for row in part)
        await writer.append(LIVE_TOPIC, [encode_record(header, batch)])


def _labels(row: Row) -> LabelSet:
    labels = {"__name__": row.metric, "job": "byoc", "instance": INSTANCE}
    if row.cluster:
        labels |= {"cluster": row.cluster, "component": row.component}
    return tuple(sorted(labels.items()))


def main() -> int:
    """Exit status 1 when the bundle is not what FOCUS asks for."""
    parser = argparse.ArgumentParser(description="Three months of a demo, exported as FOCUS and checked.")
    parser.add_argument("--out", type=Path, default=Path("focus-out"), help="A new folder.")
    folder = parser.parse_args().out
    if folder.exists():
        sys.stderr.write(f"error: {folder} exists; name a new folder, or remove it\n")
        return 2
    vendor = open_vendor(folder / "vendor", None, VirtualClock(datetime(2026, 7, 1, tzinfo=UTC)))
    span = ("--from", MONTHS[0], "--to", "2026-10", "--out", str(folder / "focus"))
    try:
        asyncio.run(play(vendor, folder / "documents"))
        app(["export", "focus", OWNER, *span, "--check"], obj=vendor, standalone_mode=False)
    except ByocError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
