"""`byoc close` for many organizations by stages, and what a look of the hour closer at one costs when nothing came.

Each organization has a cluster of three components, seen each four minutes of a month, and a contract. Their hours
are closed, invoiced and written by the same function as the command, PDFs apart. Then every organization is looked
at once more with nothing new, as `byoc up` does again and again: that is the figure, as the cost of one look among
all of them over that among a quarter. It should not depend on how many others there are.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence as Listed
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np

from bench.invoices import store_contracts
from bench.machine import note
from bench.outcome import Budget, Outcome
from bench.usage import COMPONENTS, labels_of
from console.migrate import migrate
from console.months import Choice, close_everyone
from console.up import open_lake
from console.wiring import Vendor
from kernel.clock import SystemClock
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from kernel.log.memory import MemoryLog
from kernel.window import month
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.lake.writer import LakeWriter
from metering.record import (
    HISTORY_TOPIC,
    LIVE_TOPIC,
    BatchHeader,
    Lane,
    SampleBatch,
    Sequence,
    encode_record,
)
from metering.usage.api import HourCloser, LakeSource, UsageSettings, UsageStore
from tests.billing.deals import Office

FIRST = (SystemClock().now().replace(day=1) - timedelta(days=32)).replace(day=1)  # a month that is over for long
MONTH = f"{FIRST:%Y-%m}"
TERM = f"{MONTH}-01", f"{FIRST.year + 1}-{FIRST:%m}-01"
PERIOD = month(MONTH)
STEP_MS = 240_000  # below the staleness limit
ORGANIZATIONS, QUICK = 80, 12
BUDGET = Budget(1.5)


@dataclass
class _Found:
    """Seconds by stage, and of processor time of a look at one organization."""

    organizations: int
    stages: dict[str, float] = field(default_factory=dict)
    look_ms: float = 0.0

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.stages.items())
        return f"{self.organizations} organizations: {stages}; a look {self.look_ms:.1f} ms each"


def measure(*, quick: bool) -> Outcome:
    """The cost of a look at one organization among many, over that among a quarter of them."""
    most = QUICK if quick else ORGANIZATIONS
    found = [asyncio.run(_run(count)) for count in (most // 4, most)]
    for one in found:
        note(f"close: {one}")
    few, many = found
    return Outcome(
        "close",
        f"cost of a look at one of {many.organizations} organizations, over that at one of {few.organizations}",
        [many.look_ms / few.look_ms],
        [],
        BUDGET,
        {
            str(one.organizations): {
                "look_ms_each": round(one.look_ms, 2),
                **{f"{stage}_seconds": round(seconds, 2) for stage, seconds in one.stages.items()},
            }
            for one in found
        },
    )


async def _run(count: int) -> _Found:
    owners = [OrganizationId(f"org-{number}") for number in range(count)]
    found = _Found(count)
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as text:
        folder = Path(text)
        vendor = Vendor.embedded(folder, SystemClock())
        assert isinstance(vendor, Vendor)
        migrate(vendor.database())
        store_contracts(Office(vendor.database()), owners, "", TERM)
        lake = await open_lake(vendor)
        await _fill(lake, owners)
        await lake.close()
        last = time.perf_counter()

        def progress(stage: str, done: int, of: int) -> None:
            nonlocal last
            if done == of:
                found.stages[stage] = time.perf_counter() - last
                last = time.perf_counter()

        summary = await close_everyone(vendor, MONTH, folder / "out", Choice(pdf=False, processes=2), progress)
        if summary.refused or len(summary.documents) < count:
            raise AssertionError(f"{len(summary.documents)} documents, refused: {summary.refused[:3]}")
        found.look_ms = await _look(vendor, owners)
        await vendor.close()
    return found


async def _look(vendor: Vendor, owners: Listed[OrganizationId]) -> float:
    """Milliseconds of processor time of each, when all hours are closed and no file came."""
    lake = await open_lake(vendor)
    closer = HourCloser(LakeSource(lake, 86_400.0), UsageStore(vendor.database()), UsageSettings(), vendor.clock)
    for _ in range(2):  # hours after the month's, then a look that finds nothing
        for owner in owners:
            await closer.close_due(owner)
    before = time.process_time()
    for owner in owners:
        assert await closer.close_due(owner) == 0
    spent = time.process_time() - before
    await lake.close()
    return spent / len(owners) * 1e3


async def _fill(lake: Lake, owners: Listed[OrganizationId]) -> None:
    """A push each, merged by day: files as a lake has them whose housekeeping is done."""
    log = MemoryLog()
    await log.ensure_topics({LIVE_TOPIC: 1, HISTORY_TOPIC: 1})
    writer = await log.writer()
    times = np.arange(PERIOD.start_ms, PERIOD.end_ms, STEP_MS)
    series = tuple(labels_of(number) for number in range(len(COMPONENTS)))
    index = np.repeat(np.arange(len(series), dtype=np.int32), len(times))
    generator = np.random.default_rng(5)
    for owner in owners:
        levels = generator.integers(1, 64, (len(series), len(times) // 360 + 1)) / 4  # another each day
        values = np.repeat(levels, 360, axis=1)[:, : len(times)].ravel()
        batch = SampleBatch(series, index, np.tile(times, len(series)), values)
        tenant = Tenant(owner, ProjectId("prod"))
        header = BatchHeader(tenant, CollectorId("col-a"), Lane.HISTORY, PERIOD.end_ms, "0" * 64, Sequence(1, 1))
        await writer.append(HISTORY_TOPIC, [encode_record(header, batch)])
    await LakeWriter(lake, log, LakeSettings(commit_samples=2_000_000)).drain()
