"""An invoice run: drafts of a month for many customers, made final, and made again to see the same bytes.

The usage is given as levels, not read from sealed hours: 10,000 customers' hours of a month are 7.4 million rows.
Contracts are stored before the clock starts. Database:
SQLite with synchronous=FULL, a transaction for 100 customers, two drafting processes; every document is signed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.machine import note
from bench.outcome import Budget, Outcome
from billing.batch import MonthDone, MonthRun
from billing.models import contracts
from billing.prepared import Prepared
from billing.proof.statement import InvoiceSigner
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.ids import OrganizationId
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window
from metering.usage.model import MeterPart, MeterRequest, MeterUsage, UsageMonth
from metering.usage.rows import UsageRows, digest_of
from tests.billing.deals import Office, contract_text

MONTH = "2026-10"
TARGET_CUSTOMERS = 10_000
TERM = ("2026-10-01", "2027-10-01")
BUDGET = Budget(30.0)


CHARGES = 10  # beside the commitment and its overage: twelve lines


class Levels:
    """Sealed usage that goes over the commitment every day from 9 to 17, each customer by another amount."""

    def metered(self, requests: Sequence[MeterRequest]) -> list[MeterUsage]:
        return [self._meter(request) for request in requests]

    def _meter(self, asked: MeterRequest) -> MeterUsage:
        number, owner = (int(name.rpartition("-")[2]) for name in (asked.meter, asked.organization))
        parts = (MeterPart(asked.group_by or "", Fraction(number * 777 + owner % 1000)),)
        window, digest = asked.window, digest_of(())
        measured = window.length_ms, 0, 0, digest
        return MeterUsage(
            *(asked.organization, asked.meter, "bench 1", "call", window, parts, (), *measured), sealed=True
        )

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        return False

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        extra = 1000 + int(organization.rpartition("-")[2]) % 50 * 500
        points = []
        for morning in range(window.start_ms + 9 * HOUR_MS, window.end_ms, 24 * HOUR_MS):
            points += [(morning, 16_000 + extra), (morning + 8 * HOUR_MS, 16_000)]
        step = StepFunction.of([(window.start_ms, 16_000), *points, (window.end_ms, 0)])
        return UsageMonth(
            organization,
            window,
            UsageRows.of(organization, ()),
            step,
            window.length_ms,
            0,
            digest_of(()),
            sealed=True,
        )


def open_levels(_database: Database) -> Levels:
    """Where the drafting processes get usage from."""
    return Levels()


def charges() -> str:
    """YAML of ten graduated charges, each for a meter of its own."""
    tiers = '[{up_to: "1000", unit: "0.10"}, {up_to: null, unit: "0.05"}]'
    step = f"{{start: 2026-10-01, model: {{kind: graduated, tiers: {tiers}}}}}"
    rows = (
        f"  - {{charge: charge-{number}, description: Charge {number}, meter: meter-{number}, steps: [{step}]}}\n"
        for number in range(CHARGES)
    )
    return "charges:\n" + "".join(rows)


@dataclass(frozen=True)
class _Found:
    draft_seconds: float
    finalize_seconds: float
    lines: int
    is_same_again: bool

    @property
    def seconds(self) -> float:
        """The slower of the two: each has the budget for itself."""
        return max(self.draft_seconds, self.finalize_seconds)


def measure(*, quick: bool, customers: int | None = None, runs: int | None = None) -> Outcome:
    """Seconds for 10,000 customers; a run of fewer is multiplied up, and `details` says so."""
    count = customers or (500 if quick else TARGET_CUSTOMERS)
    found = []
    for _ in range(runs or (3 if quick else 1)):
        found.append(_run(count))
        note(f"invoices: {count} customers: {found[-1]}")
    scale = TARGET_CUSTOMERS / count
    return Outcome(
        "invoices",
        f"seconds for {TARGET_CUSTOMERS} customers, the slower of drafting and making final",
        [one.seconds * scale for one in found],
        [],
        BUDGET,
        {
            "customers": count,
            "multiplied_by": scale,
            "lines_per_customer": found[0].lines / count,
            "lines_of_the_budget": 12,
            "draft_seconds": [round(one.draft_seconds, 2) for one in found],
            "finalize_seconds": [round(one.finalize_seconds, 2) for one in found],
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
        store_contracts(office, organizations, charges())
        signer = InvoiceSigner(Ed25519PrivateKey.generate(), b"")
        run = MonthRun(database, open_levels, office.clock, office.audit, signer=signer)
        started = time.perf_counter()
        drafted = deque(run.drafts(organizations, MONTH))
        after_drafts = time.perf_counter()
        contents, documents, lines, finalizing = _Digest(), _Digest(), 0, 0.0
        while drafted:
            batch, (drafts, refused) = drafted.popleft()
            before = time.perf_counter()
            done = run.finalize(batch, drafts, refused)
            finalizing += time.perf_counter() - before
            _note(contents, documents, drafts, done)
            lines += sum(len(one.document["lines"]) for one in done.documents if one.kind == "usage")
        # Once more from the start: the drafts must have the same bytes, and the documents stay what they are.
        contents_again, documents_again = _Digest(), _Digest()
        for batch, (drafts, refused) in run.drafts(organizations, MONTH):
            _note(contents_again, documents_again, drafts, run.finalize(batch, drafts, refused))
        is_same = (contents, documents) == (contents_again, documents_again)
        is_whole = documents.usage == customers
        database.close()
    return _Found(after_drafts - started, finalizing, lines, is_same and is_whole)


def store_contracts(
    office: Office, organizations: Sequence[OrganizationId], more: str, term: tuple[str, str] = TERM
) -> None:
    """The first is read and checked as any; the others are its rows under other names, as that takes minutes.

    `more`: YAML at the end of each.
    """
    first = organizations[0]
    office.book.add_contract(contract_text(first, term=term, more=more), "contract.yaml", "bench")

    def copy(connection: sa.Connection) -> None:
        row = connection.execute(sa.select(contracts)).mappings().one()
        rows = []
        for organization in organizations[1:]:
            text = contract_text(organization, term=term, more=more)
            renamed = {
                name: row[name].replace(first.title(), organization.title()).replace(first, organization)
                for name in ("contract", "organization", "content")
            }
            rows.append({**row, **renamed, "snapshot": text, "sha256": sha256(text.encode()).hexdigest()})
        connection.execute(sa.insert(contracts), rows)

    if organizations[1:]:
        office.database.transact(copy)


@dataclass
class _Digest:
    """What came out so far: too much to be held twice."""

    sha256: str = ""
    usage: int = 0

    def add(self, text: str) -> None:
        self.sha256 = sha256((self.sha256 + text).encode()).hexdigest()


def _note(contents: _Digest, documents: _Digest, drafts: Sequence[Prepared], done: MonthDone) -> None:
    for draft in drafts:
        contents.add(sha256(draft.content).hexdigest())
    for one in done.documents:
        documents.add(one.number + sha256(one.json).hexdigest())
        documents.usage += one.kind == "usage"
