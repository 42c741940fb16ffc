"""Drafts of a month from sealed hours: what `bench invoices` leaves out, whose usage is given as levels.

Each customer has a cluster of three components and ten counters of a catalogue, a row each in every hour of the
month, and a contract of twelve lines: the commitment, its overage and a graduated charge for each counter. Hours
are sealed by the stores' own functions before the clock starts. Database: SQLite; two drafting processes.

Drafted once reading every row, which keeps what the month comes to, and then again from what was kept: `byoc up`
does the first as soon as a month's hours are all sealed, so the second is what a run takes, and the figure.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.invoices import MONTH, TARGET_CUSTOMERS, charges, store_contracts
from bench.machine import note
from bench.outcome import Budget, Outcome
from billing.batch import BATCH, MonthRun
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.ids import ClusterId, CollectorId, OrganizationId, ProjectId
from kernel.window import HOUR_MS, Window, hours_in, month
from metering.meters.catalogue import parse_catalogue
from metering.meters.hours import MeterHour, Piece, RowHour, RowKey
from metering.meters.store import MetersOfHour, MeterStore
from metering.usage.api import UsageStore, open_keeping
from metering.usage.hours import ComponentHour
from metering.usage.meter import Component
from metering.usage.sealing import HourToSeal
from tests.billing.deals import Office

PERIOD = month(MONTH)
CUSTOMERS, QUICK = 2 * BATCH, 20
CHARGES = 10
COMPONENTS = ("index", "query", "proxy")
BUDGET = Budget(30.0)
_PROJECT, _CLUSTER = ProjectId("prod"), ClusterId("cluster-0")
_SHA256 = "0" * 64
_SOURCES = (f"{MONTH}-01/org/prod/byoc.samples-0-{0:020d}-{9:020d}-{_SHA256}.parquet {_SHA256}",)


def measure(*, quick: bool, customers: int | None = None) -> Outcome:
    """Seconds for 10,000 customers, a run of fewer multiplied up; the start of the processes is in it."""
    count = customers or (QUICK if quick else CUSTOMERS)
    most = 1000 if quick else TARGET_CUSTOMERS
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        database = Database(sqlite_url(Path(folder) / "byoc.sqlite"))
        migrate(database)
        office = Office(database)
        organizations = [OrganizationId(f"org-{number}") for number in range(count)]
        store_contracts(office, organizations, charges())
        for number, organization in enumerate(organizations):
            seal_month(database, organization, number)
        note(f"drafts: the hours of {count} customers are sealed")
        run = MonthRun(database, open_keeping, office.clock, office.audit, processes=2)
        first, first_seconds = _draft(run, organizations)  # reads rows and keeps what they come to
        # Each again and again, as many drafts as a run has: sealing so many customers would take an hour.
        times = most // count
        drafts, seconds = _draft(run, organizations * times)
        if drafts != first * times:
            raise AssertionError("drafts of what was kept are not those of what was read")
        database.close()
    scale = TARGET_CUSTOMERS / (count * times)
    return Outcome(
        "drafts",
        f"seconds for drafts of {TARGET_CUSTOMERS} customers from sealed hours that were read before",
        [seconds * scale],
        [],
        BUDGET,
        {
            "customers": count,
            "times": times,
            "multiplied_by": scale,
            "rows_per_customer": (len(COMPONENTS) + CHARGES) * (PERIOD.length_ms // HOUR_MS),
            "lines_per_customer": sum(draft.count(b'"derivation"') for draft in first) / count,
            "draft_ms_each": round(seconds / (count * times) * 1e3, 2),
            "first_draft_ms_each": round(first_seconds / count * 1e3, 2),
        },
    )


def _draft(run: MonthRun, organizations: Sequence[OrganizationId]) -> tuple[list[bytes], float]:
    started = time.perf_counter()
    drafted = [each for _, each in run.drafts(organizations, MONTH)]
    spent = time.perf_counter() - started
    refused = [one for _, each in drafted for one in each]
    if refused:
        raise AssertionError(f"refused: {refused[:3]}")
    note(f"drafts: {spent:.2f} s")
    return [draft.content for drafts, _ in drafted for draft in drafts], spent


def seal_month(database: Database, organization: OrganizationId, number: int) -> None:
    """Every hour of a customer, in one transaction for the licence and one for the meters."""
    hours = list(hours_in(PERIOD))
    UsageStore(database).seal([_licence_hour(organization, hour, number) for hour in hours], PERIOD.end_ms)
    catalogue = parse_catalogue(_catalogue(), "catalogue.yaml")
    store = MeterStore(database)
    store.add_catalogue(catalogue, PERIOD.start_ms)
    store.seal(organization, catalogue, [_meters_of(hour, number) for hour in hours], PERIOD.end_ms, {})


def _licence_hour(organization: OrganizationId, hour: Window, number: int) -> HourToSeal:
    is_busy = 9 <= hour.start.hour < 17  # above the commitment, as in `bench invoices`
    level = 6000 + number % 50 * 100 if is_busy else 5000
    components = [
        ComponentHour(
            *(Component(_PROJECT, _CLUSTER, name), CollectorId("col-a"), level * HOUR_MS, HOUR_MS, 0, level, True),
            places=f"{_SHA256[:12]}:0:0-14",
        )
        for name in COMPONENTS
    ]
    step = [(hour.start_ms, level * len(COMPONENTS)), (hour.end_ms, 0)]
    return HourToSeal(organization, hour, components, step, _SOURCES, _SHA256, 1, "deadline")


def _meters_of(hour: Window, number: int) -> MetersOfHour:
    pieces = tuple(Piece(10 + number % 7, 0, HOUR_MS // 4, 0) for _ in range(4))
    row = RowHour(RowKey(_PROJECT, _CLUSTER, ()), pieces, places=f"{_SHA256[:12]}:0:0-14")
    meters = {f"meter-{each}": MeterHour((row,), {}) for each in range(CHARGES)}
    return MetersOfHour(hour, meters, _SOURCES, _SHA256, 1, "deadline")


def _catalogue() -> str:
    meters = "".join(
        f"  - {{meter: meter-{each}, description: Meter {each}, kind: counter-increase, unit: call, "
        f"series: [{{metric: calls_{each}_total}}]}}\n"
        for each in range(CHARGES)
    )
    return f"catalogue: bench\nversion: 1\nmeters:\n{meters}"
