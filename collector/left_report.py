"""The ledger of what left, for a person and for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

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


def render_lines(ledger: LeftLedger, listed: Listed) -> Iterator[str]:
    """Whole rows with tabs between their fields, below a row of names: for a pipe or a file."""
    return ("\t".join(row) for row in _rows(ledger, listed))


def render_table(ledger: LeftLedger, listed: Listed) -> Table:
    """For a terminal: long names are folded, not cut."""
    names, *rows = _rows(ledger, listed)
    table = Table(caption=render_totals(ledger))
    for number, name in enumerate(names):
        if number == 0:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, overflow="fold", min_width=min(10, len(name)))
    for row in rows:
        table.add_row(*(Text(field) for field in row))  # a string would be read as markup: [red]
    return table


def render_totals(ledger: LeftLedger) -> str:
    """One line."""
    totals = ledger.totals()
    return (
        f"{totals.listed} series listed, {totals.unlisted} only counted;"
        f" {totals.compressed_bytes} bytes sent, compressed"
    )


def _rows(ledger: LeftLedger, listed: Listed) -> Iterator[tuple[str, ...]]:
    if listed is not None:
        yield "series", "first left"
        for series, first in listed:
            yield _printable(series), _moment(first)
        return
    yield "family", "series", "samples", "bytes", "first left", "last left"
    for family in ledger.families():
        counts = (str(family.series), str(family.samples), str(family.bytes))
        yield _printable(family.name), *counts, _moment(family.first_ms), _moment(family.last_ms)


def _printable(text: str) -> str:
    """A target chose these characters; they must not move the cursor of who reads them, nor end a field."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _moment(milliseconds: int) -> str:
    return from_ms(milliseconds).isoformat(timespec="seconds")
