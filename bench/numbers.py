"""A thousand finalisations at once: numbered 1 to 1,000 without a gap, on SQLite and on PostgreSQL.

Each in a thread and a transaction of its own, all of one legal entity, so that they race for one counter row. The
figure is PostgreSQL's; SQLite's is in `details`. Drafts are made before the clock starts.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench.machine import note
from bench.outcome import Budget, Outcome
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.ids import OrganizationId
from tests.billing.deals import Office, contract_text
from tests.services.postgres import run_postgres

COUNT, THREADS = 1000, 16
MONTH = "2026-10"
BUDGET = Budget(120.0)  # what is asked for is no gap; this only says that it ends


def measure(*, quick: bool) -> Outcome:
    """Seconds for 1,000; fewer in the quick form are multiplied up. Raises ServiceUnavailable: no PostgreSQL."""
    count = 200 if quick else COUNT
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="byoc-bench-")))
        server = stack.enter_context(run_postgres())
        url = stack.enter_context(server.database())
        urls = {"sqlite": sqlite_url(folder / "byoc.sqlite"), "postgresql": url}
        found = {name: _race(url, count) for name, url in urls.items()}
    for name, (seconds, is_gapless) in found.items():
        note(f"numbers: {count} on {name} in {seconds:.1f} s, without a gap: {is_gapless}")
    scale = COUNT / count
    return Outcome(
        "numbers",
        f"seconds for {COUNT} concurrent finalisations on PostgreSQL",
        [found["postgresql"][0] * scale],
        [],
        BUDGET,
        {
            "finalisations": count,
            "multiplied_by": scale,
            "threads": THREADS,
            "sqlite_seconds": round(found["sqlite"][0] * scale, 2),
            "without_a_gap": {name: is_gapless for name, (_, is_gapless) in found.items()},
        },
        extra_holds=all(is_gapless for _, is_gapless in found.values()),
    )


def _race(url: str, count: int) -> tuple[float, bool]:
    database = Database(url)
    try:
        migrate(database)
        office = Office(database)
        organizations = [OrganizationId(f"org-{number}") for number in range(count)]
        for organization in organizations:
            office.book.add_contract(contract_text(organization), "contract.yaml", "bench")
        run = office.run
        drafts = [run.draft(organization, MONTH) for organization in organizations]
        for draft in drafts:
            draft.json()
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            issued = list(pool.map(run.finalize, drafts))
        seconds = time.perf_counter() - started
        numbers = sorted(int(invoice.number.rpartition("-")[2]) for invoice in issued)
        return seconds, numbers == list(range(1, count + 1)) and not office.audit.verify()
    finally:
        database.close()
