"""The hours of a month of many organizations, closed and compared: a few at a time, in several processes."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from billing.api import Refused
from console.up import open_lake, open_meters
from console.wiring import Vendor, open_vendor
from kernel.clock import SystemClock
from kernel.errors import ByocError
from kernel.ids import OrganizationId
from kernel.window import Window
from metering.lake.api import Lake
from metering.lake.settings import LakeSettings
from metering.usage.api import HourCloser, LakeSource, Reconciler, UsageSettings, UsageStore

BATCH = 4  # organizations that a process takes at once; for a single batch none is started
Batch = Sequence[tuple[OrganizationId, Window]]


@dataclass(frozen=True, slots=True)
class ClosedHours:
    """What closing gave of some organizations."""

    organizations: int
    revisions: int
    differing: int  # cluster-hours whose usage is not what the provisioner declared
    refused: tuple[Refused, ...]


async def close_hours(
    vendor: Vendor, owners: Mapping[OrganizationId, Window], processes: int
) -> AsyncIterator[ClosedHours]:
    """Close every hour that is due in each one's window, in no order. Raises what lake and database raise."""
    batches = list(_batches(sorted(owners.items())))
    # Another process has the clock of the machine.
    if processes <= 1 or len(batches) <= 1 or not isinstance(vendor.clock, SystemClock):
        lake = await open_lake(vendor)
        try:
            for batch in batches:
                yield await close_batch(vendor, lake, batch)
        finally:
            await lake.close()
        return
    loop, context = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    opened = vendor.source, vendor.folder
    with ProcessPoolExecutor(min(processes, len(batches)), context, _open, opened) as pool:
        waiting = [loop.run_in_executor(pool, _close_elsewhere, batch) for batch in batches]
        try:
            for done in asyncio.as_completed(waiting):
                yield await done
        finally:
            for one in waiting:
                one.cancel()


async def close_batch(vendor: Vendor, lake: Lake, batch: Batch) -> ClosedHours:
    """The same in this process. What one organization is refused for holds up no other."""
    closer = hour_closer(vendor, lake)
    reconciler = Reconciler(vendor.database(), vendor, vendor.section("usage", UsageSettings), vendor.clock)
    revisions = differing = 0
    refused: list[Refused] = []
    for owner, window in batch:
        try:
            revisions += await closer.close_window(owner, window)
            differing += (await asyncio.to_thread(reconciler.reconcile, owner, window)).differing
        except ByocError as error:
            refused.append(Refused(owner, error))
    return ClosedHours(len(batch), revisions, differing, tuple(refused))


def hour_closer(vendor: Vendor, lake: Lake) -> HourCloser:
    """Of the licence's hours and those of the catalogue's meters."""
    source = LakeSource(lake, vendor.section("lake", LakeSettings).watermark_hold_seconds)
    settings = vendor.section("usage", UsageSettings)
    meters = open_meters(vendor, source, settings)
    return HourCloser(source, UsageStore(vendor.database()), settings, vendor.clock, meters=meters)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What a process of the pool works with from its beginning to its end: a lake remembers what it has read."""

    runner: asyncio.Runner
    vendor: Vendor
    lake: Lake


_opened: list[_Opened] = []


def _open(source: Path | None, folder: Path) -> None:
    runner, vendor = asyncio.Runner(), open_vendor(None if source else folder, source)
    _opened.append(_Opened(runner, vendor, runner.run(open_lake(vendor))))


def _close_elsewhere(batch: Batch) -> ClosedHours:
    [mine] = _opened
    return mine.runner.run(close_batch(mine.vendor, mine.lake, batch))


def _batches(owners: Batch) -> Iterator[Batch]:
    for start in range(0, len(owners), BATCH):
        yield owners[start : start + BATCH]
