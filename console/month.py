"""`byoc close`: a month of an organization, from hours to documents on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from billing.api import CheckpointStore, Closed, InvoiceRun, invoice_pdf, open_signer
from console.hours import hour_closer
from console.up import open_lake
from console.wiring import Vendor
from kernel.ids import OrganizationId
from kernel.window import Window, hull, month
from metering.usage.api import Reconciler, UsageMonth, UsageSettings, UsageStore
from metering.usage.report import MonthlyReport, monthly_report, with_estimates
from metering.usage.report_files import render_all


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """What closing gave, and where the documents are."""

    revisions: int
    usage: UsageMonth
    closed: tuple[Closed, ...]  # one for each contract that covers the month, by id
    files: tuple[Path, ...]


async def close_month(
    vendor: Vendor, organization: OrganizationId, name: str, out: Path, zone: str | None = None
) -> ClosedMonth:
    """Close the hours that are due, write the report, finalize and write each contract's invoice. Repeatable.

    Each contract's month begins in its own time zone. The report is of the month in `zone`: None takes that of the
    contract with vCPU. Raises InvalidInput, NoContract, UsageNotSealed (hours are still open), and what lake and
    database raise.
    """
    if zone is None:
        zone = await asyncio.to_thread(vendor.zone_of, organization, name)
    window, store = month(name, zone), UsageStore(vendor.database())
    signer = open_signer(vendor.authority_folder, vendor.clock)
    run = InvoiceRun(vendor.database(), store, vendor.clock, vendor.audit(), "cli", signer)
    covering = await asyncio.to_thread(run.covering_each, organization, name)
    contracts = [agreed.contract for agreed, _ in covering]
    whole = hull(window, *(month(name, one.time_zone) for one in contracts))
    revisions = await _close_hours(vendor, organization, whole)
    usage = await asyncio.to_thread(store.month, organization, window)
    settings = vendor.section("usage", UsageSettings)
    reconciler = Reconciler(vendor.database(), vendor, settings, vendor.clock)
    compared = await asyncio.to_thread(reconciler.reconcile, organization, window)
    closed = [await asyncio.to_thread(run.close, organization, name, one.contract) for one in contracts]
    await asyncio.to_thread(_checkpoint, vendor, name)
    capacity = await asyncio.to_thread(vendor.capacity_of, organization)
    report = monthly_report(usage, capacity, name, zone, compared)
    report = with_estimates(report, usage, vendor.gap_rule_of(organization, window))
    files = await asyncio.to_thread(_write, vendor, report, usage, closed, out)
    return ClosedMonth(revisions, usage, tuple(closed), tuple(files))


async def _close_hours(vendor: Vendor, organization: OrganizationId, window: Window) -> int:
    """Seal every hour of the window that is due; returns the revisions written."""
    lake = await open_lake(vendor)
    try:
        return await hour_closer(vendor, lake).close_window(organization, window)
    finally:
        await lake.close()


def _checkpoint(vendor: Vendor, name: str) -> None:
    """Chain what was issued; the next close does it, should this one die before."""
    signer = open_signer(vendor.authority_folder, vendor.clock)
    CheckpointStore(vendor.database(), vendor.clock, vendor.audit(), signer, "cli").make(name)


def _write(
    vendor: Vendor, report: MonthlyReport, usage: UsageMonth, closed: Sequence[Closed], out: Path
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    files = [*render_all(report, usage, out, vendor.language_of(usage.organization))]
    renderer = invoice_pdf(vendor.folder / "logos")
    for invoice in (one.invoice for one in closed):
        name = "invoice" if len(closed) == 1 else f"invoice-{invoice.contract}"
        for file_name, content in (
            (f"{name}.json", invoice.json),
            (f"{name}.pdf", renderer.render(invoice.json)),
        ):
            waiting = out / f".{file_name}.part"
            waiting.write_bytes(content)
            files.append(waiting.replace(out / file_name))
    return files
