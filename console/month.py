"""`byoc close`: a month of an organization, from hours to documents on disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from billing.api import CheckpointStore, Closed, InvoiceRun, gap_rule_of, invoice_pdf, open_signer
from console.up import open_lake, open_meters
from console.wiring import Vendor
from kernel.ids import OrganizationId
from kernel.window import month
from metering.lake.settings import LakeSettings
from metering.usage.api import HourCloser, LakeSource, Reconciler, UsageMonth, UsageSettings, UsageStore
from metering.usage.report import MonthlyReport, monthly_report, with_estimates
from metering.usage.report_files import render_all


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """What closing gave, and where the documents are."""

    revisions: int
    usage: UsageMonth
    invoices: Closed
    files: tuple[Path, ...]


async def close_month(vendor: Vendor, organization: OrganizationId, name: str, out: Path, zone: str) -> ClosedMonth:
    """Close the hours that are due, write the report, finalize and write the invoice. Repeatable.

    Raises InvalidInput, NoContract, UsageNotSealed (hours are still open), and what lake and database raise.
    """
    window = month(name, zone)
    revisions = await close_hours(vendor, organization, name, zone)
    store = UsageStore(vendor.database())
    usage = await asyncio.to_thread(store.month, organization, window)
    settings = vendor.section("usage", UsageSettings)
    reconciler = Reconciler(vendor.database(), vendor, settings, vendor.clock)
    compared = await asyncio.to_thread(reconciler.reconcile, organization, window)
    invoices = await asyncio.to_thread(_invoice, vendor, store, organization, name)
    await asyncio.to_thread(_checkpoint, vendor, name)
    capacity = await asyncio.to_thread(vendor.capacity_of, organization)
    report = monthly_report(usage, capacity, name, zone, compared)
    report = with_estimates(report, usage, gap_rule_of(invoices.invoice.document))
    files = await asyncio.to_thread(_write, vendor, report, usage, invoices, out)
    return ClosedMonth(revisions, usage, invoices, tuple(files))


async def close_hours(vendor: Vendor, organization: OrganizationId, name: str, zone: str) -> int:
    """Seal every hour of the month that is due; returns the revisions written."""
    lake = await open_lake(vendor)
    try:
        source = LakeSource(lake, vendor.section("lake", LakeSettings).watermark_hold_seconds)
        settings = vendor.section("usage", UsageSettings)
        meters = open_meters(vendor, source, settings)
        closer = HourCloser(source, UsageStore(vendor.database()), settings, vendor.clock, meters=meters)
        return await closer.close_window(organization, month(name, zone))
    finally:
        await lake.close()


def _invoice(vendor: Vendor, store: UsageStore, organization: OrganizationId, name: str) -> Closed:
    signer = open_signer(vendor.authority_folder, vendor.clock)
    run = InvoiceRun(vendor.database(), store, vendor.clock, vendor.audit(), "cli", signer)
    return run.close(organization, name)


def _checkpoint(vendor: Vendor, name: str) -> None:
    """Chain what was issued; the next close does it, should this one die before."""
    signer = open_signer(vendor.authority_folder, vendor.clock)
    CheckpointStore(vendor.database(), vendor.clock, vendor.audit(), signer, "cli").make(name)


def _write(vendor: Vendor, report: MonthlyReport, usage: UsageMonth, closed: Closed, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    files = [*render_all(report, usage, out, vendor.language_of(usage.organization))]
    for file_name, content in (
        ("invoice.json", closed.invoice.json),
        ("invoice.pdf", invoice_pdf(vendor.folder / "logos").render(closed.invoice.json)),
    ):
        waiting = out / f".{file_name}.part"
        waiting.write_bytes(content)
        files.append(waiting.replace(out / file_name))
    return files
