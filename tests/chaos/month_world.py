"""Three customers with what a month run may have to do, up to the moment in which the month is closed.

acme: less usage of September became known since its invoice, so a credit note; overage, tax. beta: its draft asks
for approval; prepaid credits, a charge that AWS Marketplace bills, another legal entity. gamma: more usage of
September, so a line; a gap.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from billing.api import ContractBook, InvoiceRun, open_signer
from billing.prepaid import GrantTerms, Prepaid
from billing.receivables import Receivables
from console.up import open_authority, open_lake
from console.wiring import Vendor
from kernel.clock import VirtualClock, to_ms
from kernel.ids import OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.money import Money, currency
from kernel.window import DAY_MS, HOUR_MS, Window, hours_in
from metering.lake.writer import LakeWriter
from metering.record import HISTORY_TOPIC, LIVE_TOPIC
from metering.usage.api import UsageStore
from tests.billing.deals import contract_text
from tests.chaos.month import CATALOGUE, CLOSED_MS, METER, OCTOBER, Place, closer_of
from tests.lake.setting import Push, append, gauge
from tests.usage.months import seen, to_seal

LAST_DAY = Window(OCTOBER.end_ms - DAY_MS, OCTOBER.end_ms)  # which the run has to seal
SEPTEMBER_30 = Window(OCTOBER.start_ms - DAY_MS, OCTOBER.start_ms)
ACME, BETA, GAMMA = (OrganizationId(name) for name in ("acme", "beta", "gamma"))
SCRAPE_MS = 240_000
CHARGE = f"""approval: true
charges:
  - charge: searches
    description: Searches
    meter: {METER}
    marketplace: {{product: prod-1, account: "123456789012", dimension: searches}}
    steps: [{{start: 2026-10-01, model: {{kind: per-unit, unit: "0.01"}}}}]
"""


def make_month(place: Place) -> None:
    """Everything but the run."""
    (place.folder / "meters.yaml").write_text(CATALOGUE)
    vendor = place.vendor(to_ms(datetime(2026, 10, 4, tzinfo=UTC)))
    open_authority(vendor)
    book = ContractBook(vendor.database(), vendor.clock, vendor.audit())
    taxed = 'tax: {category: S, rate: "19"}\nsend_to: pay@acme.example\n'
    for owner, start, more in (
        (ACME, "2026-09-30", taxed),
        (BETA, "2026-10-01", CHARGE),
        (GAMMA, "2026-09-30", ""),
    ):
        text = contract_text(owner, term=(start, "2027-10-01"), more=more)
        book.add_contract(text.replace("example-eu", "example-us") if owner == BETA else text, "c.yaml", "test")
    prepaid = Prepaid(vendor.database(), vendor.clock, vendor.audit(), "test")
    prepaid.add("bought", BETA, Money(Decimal("14400.50"), currency("USD")), GrantTerms("wire-1"))
    asyncio.run(_meter(vendor))


async def _meter(vendor: Vendor) -> None:
    """September invoiced, and revised since; October in the lake, and sealed but for its last day."""
    clock, store = vendor.clock, UsageStore(vendor.database())
    assert isinstance(clock, VirtualClock)
    signer = open_signer(vendor.authority_folder, clock)
    run = InvoiceRun(vendor.database(), store, clock, vendor.audit(), "test", signer)
    for owner in (ACME, GAMMA):
        _seal(store, owner, SEPTEMBER_30, 20_000, clock.now_ms())
        run.close(owner, "2026-09")
    await clock.advance((CLOSED_MS - DAY_MS - clock.now_ms()) / 1000)
    _seal(store, ACME, SEPTEMBER_30, 18_000, clock.now_ms())
    _seal(store, GAMMA, SEPTEMBER_30, 23_000, clock.now_ms())
    lake, log = await open_lake(vendor), MemoryLog(clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    await append(log, [_pushed(owner, LAST_DAY) for owner in (ACME, BETA, GAMMA)])
    await LakeWriter(lake, log).drain()
    closer = closer_of(vendor, lake)
    for owner in (ACME, BETA, GAMMA):
        await closer.close_window(owner, Window(OCTOBER.start_ms, LAST_DAY.start_ms))
    await lake.close()
    await vendor.close()


def make_hand_over(place: Place) -> None:
    """After the month was closed: three documents wait, and AWS Marketplace takes hours of beta just sealed."""
    vendor = place.vendor()
    receivables = Receivables(vendor.database(), vendor.clock, vendor.audit(), "test")
    issued = [one.invoice.number for owner in (ACME, BETA, GAMMA) for one in receivables.statement(owner)]
    for number in issued[1:-2]:
        receivables.send(number, "ap@example.com")
    asyncio.run(_seal_hours_before(vendor, place.now_ms - place.now_ms % HOUR_MS))


async def _seal_hours_before(vendor: Vendor, now_ms: int) -> None:
    hours = Window(now_ms - 3 * HOUR_MS, now_ms)
    lake, log = await open_lake(vendor), MemoryLog(vendor.clock)
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    await append(log, [replace(_pushed(BETA, hours), number=2)])
    await LakeWriter(lake, log).drain()
    await closer_of(vendor, lake).close_window(BETA, hours)
    await lake.close()
    await vendor.close()


def _pushed(owner: OrganizationId, window: Window) -> Push:
    """A window and the hour before it, scraped: 16 vCPU, 26 in its fourth hour; searches."""
    target = {"job": "milvus", "instance": "m:1"}
    up, vcpu, searches = (
        gauge("up", **target),
        gauge("byoc_component_allocated_vcpu", cluster="c1", component="query", **target),
        gauge("searches_total", cluster="c1", **target),
    )
    rows = []
    for at_ms in range(window.start_ms - HOUR_MS, window.end_ms, SCRAPE_MS):
        hour = (at_ms - window.start_ms) // HOUR_MS
        if owner == GAMMA and hour in {7, 8}:
            continue
        rows += [(up, at_ms, 1.0), (vcpu, at_ms, 26.0 if hour == 3 else 16.0)]
        rows.append((searches, at_ms, (at_ms - window.start_ms + HOUR_MS) // 100_000 * 1.0))
    return Push(
        rows,
        tenant=Tenant(owner, ProjectId("prod")),
        collector=f"col-{owner}",
        received_ms=window.end_ms + HOUR_MS,
        complete_through_ms=window.end_ms + HOUR_MS,
    )


def _seal(store: UsageStore, owner: OrganizationId, window: Window, milli_vcpu: int, now_ms: int) -> None:
    found = [to_seal(hour, seen(hour, milli_vcpu), files=f"a{milli_vcpu}") for hour in hours_in(window)]
    store.seal([replace(one, organization=owner) for one in found], now_ms)
