"""The ledger of what left, for a person and for a program."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.table import Table

from collector.left import LeftLedger
from kernel.clock import from_ms

Listed = list[tuple[str, int]] | None


def render_json(ledger: LeftLedger, listed: Listed) -> str:
    """One document: totals, families, and the series asked for."""
    document: dict[str, object] = {
        "totals": asdict(ledger.totals()),
        "families": [asdict(family) for family in ledger.families()],
    }
    if listed is not None:
        document["series"] = [{"series": series, "first_ms": first} for series, first in listed]
    return json.dumps(document, indent=2)


def render_tables(ledger: LeftLedger, listed: Listed) -> list[Table]:
    """One table: series if some were asked for, else families; totals below."""
    totals = ledger.totals()
    caption = (
        f"{totals.listed} series listed, {totals.unlisted} only counted;"
        f" {totals.compressed_bytes} bytes sent, compressed"
    )
    if listed is not None:
        table = Table("series", "first left", caption=caption)
        for series, first in listed:
            table.add_row(series, _moment(first))
        return [table]
    table = Table("family", "series", "samples", "bytes", "first left", "last left", caption=caption)
    for family in ledger.families():
        counts = (str(family.series), str(family.samples), str(family.bytes))
        table.add_row(family.name, *counts, _moment(family.first_ms), _moment(family.last_ms))
    return [table]


def _moment(milliseconds: int) -> str:
    return from_ms(milliseconds).isoformat(timespec="seconds")
