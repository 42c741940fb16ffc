"""An invoice run: drafts of a month for many customers, made final, and made again to see the same bytes.

The usage is given as levels, not read from sealed hours: 10,000 customers' hours of a month are 7.4 million rows.
Contracts are stored before the clock starts. Database: SQLite with synchronous=FULL, a transaction an invoice.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.machine import note
from bench.outcome import Budget, Outcome
from billing.draft import digest
from billing.run import InvoiceRun
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.errors import NotFound
from kernel.ids import OrganizationId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window
from metering.usage.model import MeterUsage, UsageMonth, digest_of
from tests.billing.deals import Office, contract_text

MONTH = "2026-10"
TARGET_CUSTOMERS = 10_000
BUDGET = Budget(30.0)


class _Levels:
    """Sealed usage that goes over the commitment every day from 9 to 17, each customer by another amount."""

    def meter(self, organization: OrganizationId, meter: str, window: Window, group_by: str | None) -> MeterUsage:
        raise NotFound(f"{organization}, {window}: no charge of these contracts names {meter} by {group_by}")

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        return False

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        extra = 1000 + int(organization.rpartition("-")[2]) % 50 * 500
        points = []
        for morning in range(window.start_ms + 9 * HOUR_MS, window.end_ms, 24 * HOUR_MS):
            points += [(morning, 16_000 + extra), (morning + 8 * HOUR_MS, 16_000)]
        step = StepFunction.of([(window.start_ms, 16_000), *points, (window.end_ms, 0)])
        return UsageMonth(organization, window, (), step, window.length_ms, 0, digest_of(()), sealed=True)


@dataclass(frozen=True)
class _Found:
    draft_seconds: float
    finalize_seconds: float
    lines: int
    is_same_again: bool

    @property
    def seconds(self) -> float:
        return self.draft_seconds + self.finalize_seconds


def measure(*, quick: bool, customers: int | None = None, runs: int | None = None) -> Outcome:
    """Seconds for 10,000 customers; a run of fewer is multiplied up, and `details` says so."""
    count = customers or (500 if quick else TARGET_CUSTOMERS)
    found = []
    for _ in range(runs or (3 if quick else 2)):
        found.append(_run(count))
        note(f"invoices: {count} customers: {found[-1]}")
    scale = TARGET_CUSTOMERS / count
    return Outcome(
        "invoices",
        f"seconds for {TARGET_CUSTOMERS} customers, drafted and made final",
        [one.seconds * scale for one in found],
        [],
        BUDGET,
        {
            "customers": count,
            "multiplied_by": scale,
            "lines_per_customer": found[0].lines / count,
            "lines_of_the_budget": 12,
            "draft_ms_each": _milliseconds_each([one.draft_seconds for one in found], count),
            "finalize_ms_each": _milliseconds_each([one.finalize_seconds for one in found], count),
            "byte_identical_again": all(one.is_same_again for one in found),
        },
        extra_holds=all(one.is_same_again for one in found),
    )


def _milliseconds_each(seconds: list[float], customers: int) -> float:
    return round(statistics.median(seconds) / customers * 1e3, 3)


def _run(customers: int) -> _Found:
    organizations = [OrganizationId(f"org-{number}") for number in range(customers)]
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        database = Database(sqlite_url(Path(folder) / "byoc.sqlite"))
        migrate(database)
        office = Office(database)
        for organization in organizations:
            office.book.add_contract(contract_text(organization), "contract.yaml", "bench")
        run = InvoiceRun(database, _Levels(), office.clock, office.audit)
        started = time.perf_counter()
        drafts = [run.draft(organization, MONTH) for organization in organizations]
        drafted = time.perf_counter()
        issued = [run.finalize(draft) for draft in drafts]
        finalized = time.perf_counter()
        # Once more from the start: the drafts must have the same bytes, and the documents stay what they are.
        again = [run.draft(organization, MONTH) for organization in organizations]
        is_same = all(
            digest(draft.json()) == invoice.content_sha256 and run.finalize(draft) == invoice
            for draft, invoice in zip(again, issued, strict=True)
        )
        is_same = is_same and run.invoices() == sorted(issued, key=lambda invoice: invoice.number)
        lines = sum(len(draft.lines) for draft in drafts)
        database.close()
    return _Found(drafted - started, finalized - drafted, lines, is_same)
