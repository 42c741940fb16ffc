"""`byoc close` for every organization: hours, invoices, documents on disk, and a summary with every exception.

Each step is idempotent and finds what was done before, so a run that died is run again and goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from billing.api import (
    Checkpoint,
    CheckpointStore,
    ContractBook,
    Invoice,
    MonthRun,
    Refused,
    invoice_pdf,
    open_signer,
)
from billing.errors import NoContract
from console.hours import close_hours
from console.wiring import Vendor
from kernel.crashpoints import crash_point
from kernel.ids import OrganizationId
from kernel.money import Money, currency
from kernel.window import Window, hull, month
from metering.usage.api import open_keeping

Progress = Callable[[str, int, int], None]  # stage, done, of how many


@dataclass(frozen=True, slots=True)
class Choice:
    """What to write. `processes` close hours and make drafts."""

    pdf: bool = True
    processes: int = 1


@dataclass(slots=True)
class Summary:
    """What a run gave. Rendered to `summary.json`."""

    month: str
    revisions: int = 0
    differing: int = 0  # cluster-hours whose usage is not what the provisioner declared
    documents: list[Invoice] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def render(self) -> str:
        """Counts and sums by kind and currency, and each exception."""
        sums: dict[str, Money] = {}
        for one in self.documents:
            unit = currency(one.currency)
            key = f"{one.kind} {one.currency}"
            sums[key] = sums.get(key, Money.zero(unit)) + Money.parse(one.gross, unit)
        content = {
            "month": self.month,
            "hour_revisions": str(self.revisions),
            "unreconciled_cluster_hours": str(self.differing),
            "documents": {kind: str(count) for kind, count in Counter(one.kind for one in self.documents).items()},
            "gross": {key: f"{amount.amount:f}" for key, amount in sorted(sums.items())},
            "checkpoints": {one.legal_entity: f"{one.size} documents, root {one.root}" for one in self.checkpoints},
            "refused": [{"organization": one.organization, "reason": str(one.error)} for one in self.refused],
        }
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


async def close_everyone(vendor: Vendor, name: str, out: Path, choice: Choice, progress: Progress) -> Summary:
    """Close a month of every organization with a contract that covers it, each in its contract's time zone.

    Raises InvalidInput for no month, and what lake and database raise. What one organization is refused for is in
    the summary and holds up no other.
    """
    summary = Summary(name)
    owners = await asyncio.to_thread(_owners, vendor, name)
    count = 0
    async for done in close_hours(vendor, owners, choice.processes):
        summary.revisions += done.revisions
        summary.differing += done.differing
        summary.refused += done.refused
        count += done.organizations
        progress("hours", count, len(owners))
    await asyncio.to_thread(_invoice, vendor, sorted(owners), summary, choice, progress)
    await asyncio.to_thread(_write, vendor, summary, out, choice, progress)
    return summary


def _owners(vendor: Vendor, name: str) -> dict[OrganizationId, Window]:
    """The organizations, each with the month in its own zone."""
    month(name)
    owners: dict[OrganizationId, Window] = {}
    for agreed in ContractBook(vendor.database(), vendor.clock, vendor.audit()).contracts():
        window = month(name, agreed.contract.time_zone)
        if window.intersection(agreed.contract.window):
            owner = OrganizationId(agreed.contract.organization)
            owners[owner] = hull(window, owners.get(owner, window))
    if not owners:
        raise NoContract(f"no contract covers {name}; `byoc contract list` shows the terms")
    return owners


def _invoice(
    vendor: Vendor, owners: Sequence[OrganizationId], summary: Summary, choice: Choice, progress: Progress
) -> None:
    run = MonthRun(
        vendor.database(),
        open_keeping,
        vendor.clock,
        vendor.audit(),
        actor="close",
        processes=choice.processes,
        signer=open_signer(vendor.authority_folder, vendor.clock),
    )
    count = 0
    for done in run.close(owners, summary.month):
        summary.documents += done.documents
        summary.refused += done.refused
        count += done.organizations
        progress("invoices", count, len(owners))
    store = CheckpointStore(vendor.database(), vendor.clock, vendor.audit(), run.signer, run.actor)
    store.make(summary.month)
    summary.checkpoints += newest(store.chain())


def _write(vendor: Vendor, summary: Summary, out: Path, choice: Choice, progress: Progress) -> None:
    renderer = invoice_pdf(vendor.folder / "logos") if choice.pdf else None
    for number, one in enumerate(summary.documents, start=1):
        folder = out / one.organization
        folder.mkdir(parents=True, exist_ok=True)
        _put(folder / f"{one.number}.json", one.json)
        if renderer is not None:
            _put(folder / f"{one.number}.pdf", renderer.render(one.json))
        progress("documents", number, len(summary.documents))
    out.mkdir(parents=True, exist_ok=True)
    for checkpoint in summary.checkpoints:
        _put(out / f"checkpoint-{checkpoint.legal_entity}.json", checkpoint.signed)
    _put(out / "summary.json", summary.render().encode())


def newest(chain: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The last checkpoint of each legal entity."""
    return list({one.legal_entity: one for one in chain}.values())


def _put(path: Path, content: bytes) -> None:
    waiting = path.with_name(f".{path.name}.part")
    waiting.write_bytes(content)
    crash_point("close.half-written")
    waiting.replace(path)
