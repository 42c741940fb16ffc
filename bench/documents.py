"""PDFs a second on one core: an invoice of two lines with its chart, each with another number, buyer and usage.

CPU time of this process, all its threads together. Rendering the same document twice gives the same bytes, or the
budget does not hold.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import note
from bench.outcome import Budget, Outcome
from billing.pdf import InvoicePdf
from console.migrate import migrate
from kernel.database import Database, sqlite_url
from kernel.window import month
from tests.billing.deals import ACME, Office, contract_text, ten_vcpu_above_for_an_hour

MONTH = "2026-10"
BUDGET = Budget(40.0, is_at_most=False)


def measure(*, quick: bool) -> Outcome:
    """Documents for each second of CPU time, in English and, beside it, in Chinese."""
    count = 40 if quick else 200
    english, chinese = _document(""), _document("language: zh\n")
    renderer = InvoicePdf()
    renderer.render(_varied(english, 0))
    runs = [_rate(renderer, english, run, count) for run in range(1, 4)]
    renderer.render(_varied(chinese, 0))
    in_chinese = _rate(renderer, chinese, 4, count)
    note(f"documents: {runs} a second, in Chinese {in_chinese:.0f}")
    is_same = renderer.render(_varied(english, 1)) == InvoicePdf().render(_varied(english, 1))
    details = {"documents": count, "chinese_per_second": round(in_chinese, 1), "byte_identical_again": is_same}
    return Outcome("documents", "PDFs for each second of CPU time", runs, [], BUDGET, details, extra_holds=is_same)


def _rate(renderer: InvoicePdf, document: dict[str, Any], run: int, count: int) -> float:
    documents = [_varied(document, run * count + number) for number in range(count)]
    started = time.process_time()
    for encoded in documents:
        renderer.render(encoded)
    return count / (time.process_time() - started)


def _varied(document: dict[str, Any], number: int) -> bytes:
    """The document of another customer: what differs is number, buyer, and the usage of each day."""
    days = [
        day | {"milli_vcpu_ms": str(int(day["milli_vcpu_ms"]) * (50 + (number * 7 + place * 13) % 50) // 100)}
        for place, day in enumerate(document["usage"]["days"])
    ]
    changed = {
        "number": f"BENCH-2026-{number:06}",
        "customer": document["customer"] | {"name": f"Customer {number} Ltd"},
        "usage": document["usage"] | {"days": days},
    }
    return json.dumps(document | changed, ensure_ascii=False).encode()


def _document(more: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        database = Database(sqlite_url(Path(folder) / "byoc.sqlite"))
        migrate(database)
        office = Office(database)
        office.book.add_contract(contract_text(more=more), "contract.yaml", "bench")
        office.usage.levels = ten_vcpu_above_for_an_hour(month(MONTH))
        found = office.run.close(ACME, MONTH).invoice.document
        database.close()
    return found
