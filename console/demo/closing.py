"""The last acts: drain, close the month, let the witness speak, put everything away."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from console.demo.files import ALLOWED_PATTERN, CUSTOMERS, FLEXIBLE
from console.demo.history import METRIC
from console.demo.programs import ProgramFailed, byoc, succeed
from console.demo.rows import raw_rows
from console.demo.stage import Stage, read_json
from console.demo.witness import Row, Verdict, compare
from console.up import open_lake
from console.wiring import Vendor, open_vendor
from kernel.ids import OrganizationId
from kernel.quantity import render_fraction, vcpu_minutes
from kernel.window import month as month_window
from metering.record import HISTORY_TOPIC, LIVE_TOPIC
from metering.usage.api import UsageStore
from provisioner.local.provider import LocalProvider

ATTACHED = frozenset({"job", "instance", "organization", "project"})


async def drain(stage: Stage) -> None:
    """Let the last scrapes end, stop the collectors (they flush), then wait until the lake holds the whole log."""
    assert stage.witness is not None
    await stage.witness.hush()
    for customer in CUSTOMERS:
        await stage.programs[f"collector-{customer.organization}"].stop()
    vendor = open_vendor(None, stage.config)
    try:
        log = await vendor.log()
        ends = {**await log.end_offsets(LIVE_TOPIC), **await log.end_offsets(HISTORY_TOPIC)}
        lake = await open_lake(vendor)

        async def is_drained() -> bool:
            positions = (await lake.info()).positions
            return all(positions.get(source, 0) >= end for source, end in ends.items())

        await stage.until("the lake to catch up", is_drained, 180, "vendor")
        await lake.close()
    finally:
        await vendor.close()


async def close(stage: Stage, month: str) -> None:
    """`byoc close`: the month's hours, the report, the invoice."""
    organization = FLEXIBLE.organization
    said = await succeed(stage.config, "close", month, "--organization", organization, "--out", str(stage.out))
    for line in said.splitlines():
        if line.startswith(("DEMO", "demo")):
            stage.say(line)
    invoice = json.loads((stage.out / "invoice.json").read_text(encoding="utf-8"))
    vendor = open_vendor(None, stage.config)
    try:
        store = UsageStore(vendor.database())
        usage = await asyncio.to_thread(store.month, OrganizationId(organization), month_window(month))
    finally:
        await vendor.close()
    stage.figures["usage_vcpu_minutes"] = render_fraction(vcpu_minutes(usage.step.integral(usage.window)), 6)
    stage.figures["usage_missing_component_hours"] = round(usage.missing_ms / 3_600_000, 3)
    stage.figures["invoice_number"] = invoice["number"]
    stage.figures["invoice_total"] = invoice_total(invoice)


def invoice_total(invoice: Mapping[str, Any]) -> str:
    """`amount currency` of a canonical invoice."""
    return f"{invoice['totals']['gross']} {invoice['currency']['code']}"


async def compare_all(stage: Stage, month: str) -> None:
    """Every scraped value of both customers, and every line of the history, against the raw rows of the lake."""
    assert stage.witness is not None
    vendor = open_vendor(None, stage.config)
    try:
        rows: list[Row] = []
        for customer in CUSTOMERS:
            rows += await _rows(vendor, customer.organization)
    finally:
        await vendor.close()
    exporters = {
        target
        for customer in CUSTOMERS
        for group in read_json(stage.project_folder(customer.project) / "exporter.json") or []
        for target in group["targets"]
    }
    verdict = await asyncio.to_thread(
        lambda: compare(
            stage.witness.scrapes if stage.witness else [],
            rows,
            allowed=re.compile(ALLOWED_PATTERN),
            attached=lambda instance: ATTACHED if instance in exporters else ATTACHED | {"cluster"},
        )
    )
    history = await asyncio.to_thread(check_history, stage.out / f"simulated-history-{month}.csv", rows)
    _note(stage, verdict, history)


async def _rows(vendor: Vendor, organization: str) -> list[Row]:
    lake = await open_lake(vendor)
    try:
        return await asyncio.to_thread(raw_rows, lake.tables, organization)
    finally:
        await lake.close()


def check_history(file: Path, rows: list[Row]) -> Verdict:
    """The lines of the file against the rows: each once, with its value."""
    found: Counter[tuple[str, str, int, float]] = Counter()
    for labels, timestamp_ms, value in rows:
        named = dict(labels)
        if named["__name__"] == METRIC and named.get("cluster", "").startswith("history-"):
            found[named["cluster"], named["component"], timestamp_ms, value] += 1
    verdict = Verdict()
    with file.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            if line["metric"] != METRIC:
                continue
            verdict.scraped += 1
            copies = found[line["cluster"], line["component"], int(line["timestamp_ms"]), float(line["value"])]
            verdict.stored += copies > 0
            verdict.lost += copies == 0
            verdict.duplicated += max(0, copies - 1)
    return verdict


def _note(stage: Stage, verdict: Verdict, history: Verdict) -> None:
    receiver = stage.receiver
    assert receiver is not None
    stage.figures |= {
        "samples_scraped": verdict.scraped,
        "samples_stored": verdict.stored,
        "samples_lost": verdict.lost,
        "samples_duplicated": verdict.duplicated,
        "samples_different": verdict.different,
        "samples_unexplained": verdict.unexplained,
        "scrapes_failed": verdict.failed_scrapes,
        "history_lost": history.lost,
        "history_duplicated": history.duplicated,
        "pages_sent": len({page.webhook_id for page in receiver.received if page.verified}),
        "pages_unverified": sum(not page.verified for page in receiver.received),
    }
    for example in verdict.examples:
        stage.say(f"[red]{example}[/]")


async def put_away(stage: Stage) -> None:
    """Delete the clusters if the vendor side still runs, then end every process that was started."""
    vendor = stage.programs.get("vendor")
    if vendor is not None:
        for customer in CUSTOMERS:
            await byoc(stage.config, "cluster", "delete", customer.cluster, "--wait", "60")
    await stage.end()
    await asyncio.to_thread(LocalProvider(stage.vendor_folder / "vpc").end_all)


def print_summary(stage: Stage) -> None:
    """The figures, as a table."""
    table = Table(title=f"Left in {stage.out}", show_header=False, box=None)
    for name, value in stage.figures.items():
        if name != "seconds":
            table.add_row(name, str(value))
    stage.console.print(table)


def judge(figures: Mapping[str, Any]) -> None:
    """Raises ProgramFailed unless the demo showed what it promises."""
    none_of = (
        "samples_lost",
        "samples_duplicated",
        "samples_different",
        "samples_unexplained",
        "history_lost",
        "history_duplicated",
        "pages_unverified",
    )
    broken = [name for name in none_of if figures[name]]
    broken += [name for name in ("samples_scraped", "samples_stored", "pages_sent") if not figures[name]]
    if broken:
        raise ProgramFailed(f"the demo's figures are not as promised: {', '.join(broken)}; see summary.json")
