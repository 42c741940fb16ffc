"""The ledger of what left, for a person and for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from collector.left_read import LeftReader, Period
from collector.wire.receipt import parse_refusal
from kernel.clock import from_ms, to_ms
from kernel.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked. `by`: hour or day; `series` and `family`: series, not families; `changes`: events.

    `receivers`: what went to receivers of `remote_write`.
    """

    period: Period
    by: str | None = None
    series: bool = False
    family: str | None = None
    changes: bool = False
    limit: int = 1000
    receivers: bool = False


def render_json(ledger: LeftReader, asked: Question) -> str:
    """One document: totals, families, and what was asked for."""
    document: dict[str, object] = {
        "totals": asdict(ledger.totals(asked.period)),
        "lanes": [asdict(lane) for lane in ledger.lanes(asked.period)],
        "families": [asdict(family) for family in ledger.families(asked.period)],
        "receivers": [asdict(one) for one in ledger.receivers(asked.period)],
    }
    if asked.by:
        document["periods"] = [asdict(one) for one in ledger.periods(asked.by, asked.period, asked.family)]
    elif asked.changes:
        document["changes"] = ledger.events(asked.period)
    elif asked.series or asked.family:
        found = ledger.series(asked.family, asked.limit, asked.period)
        document["series"] = [{"series": series, "first_ms": first} for series, first in found]
    return json.dumps(document, indent=2)


def render_lines(ledger: LeftReader, asked: Question) -> Iterator[str]:
    """Whole rows with tabs between their fields, below a row of names: for a pipe or a file."""
    return ("\t".join(row) for row in _rows(ledger, asked))


def render_table(ledger: LeftReader, asked: Question) -> Table:
    """For a terminal: long names are folded, not cut."""
    names, *rows = _rows(ledger, asked)
    table = Table(caption=render_totals(ledger, asked))
    for number, name in enumerate(names):
        if number == 0:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, overflow="fold", min_width=min(10, len(name)))
    for row in rows:
        table.add_row(*(Text(field) for field in row))  # a string would be read as markup: [red]
    return table


def render_totals(ledger: LeftReader, asked: Question) -> str:
    """One line."""
    totals = ledger.totals(asked.period)
    went = sum(one.samples for one in ledger.receivers(asked.period))
    beside = f"; {went} samples to receivers of your own, see --receivers" if went else ""
    return (
        f"{totals.listed} series listed, {totals.unlisted} only counted;"
        f" {totals.samples} samples in {totals.frames} frames, {totals.compressed_bytes} bytes sent, compressed"
        f"{beside}"
    )


def _rows(ledger: LeftReader, asked: Question) -> Iterator[tuple[str, ...]]:
    if asked.by:
        yield asked.by, "family", "samples", "bytes"
        for one in ledger.periods(asked.by, asked.period, asked.family):
            yield _moment(one.start_ms), printable(one.name), str(one.samples), str(one.bytes)
    elif asked.receivers:
        yield "receiver", "metric", "samples", "bytes", "first left", "last left"
        for went in ledger.receivers(asked.period):
            amounts = str(went.samples), str(went.bytes)
            times = _moment(went.first_ms), _moment(went.last_ms)
            yield printable(went.receiver), printable(went.name), *amounts, *times
    elif asked.changes:
        yield "time", "what", "details"
        for event in ledger.events(asked.period):
            yield _moment(int(event["at_ms"])), str(event["kind"]), printable(_details(event))
    elif asked.series or asked.family:
        yield "series", "first left"
        for series, first in ledger.series(asked.family, asked.limit, asked.period):
            yield printable(series), _moment(first)
    else:
        yield "family", "series", "samples", "bytes", "first left", "last left"
        for family in ledger.families(asked.period):
            counts = (str(family.series), str(family.samples), str(family.bytes))
            yield printable(family.name), *counts, _moment(family.first_ms), _moment(family.last_ms)


def _details(event: dict[str, Any]) -> str:
    if event["kind"] == "policy":
        changes = "; ".join(map(str, event.get("changes", ())))
        return f"{event.get('source')} version {event.get('version')} sha256 {event.get('sha256')}: {changes}"
    if event["kind"] == "shipping":
        return f"stopped: {event.get('reason')}" if event.get("stopped") else "goes on"
    if event["kind"] == "gap":
        return _gap(event)
    return ", ".join(f"{name} {one}" for name, one in event.items() if name not in ("sequence", "at_ms", "kind"))


def _gap(event: dict[str, Any]) -> str:
    """Which numbers will never come, and why; of a signed refusal its reason, as the whole is in the gap record."""
    first, last, detail = event.get("first"), event.get("last"), str(event.get("detail") or "")
    with suppress(ValueError):
        detail = parse_refusal(detail).content.reason
    numbers = "no numbers" if first is None else f"numbers {first} to {'the end' if last is None else last}"
    where = f"{event.get('lane')} epoch {event.get('epoch')}, {numbers}: {event.get('reason')}"
    return f"{where}: {detail}" if detail else where


def parse_moment(text: str | None, name: str) -> int | None:
    """Milliseconds of a date or a time (UTC unless it says otherwise). Raises InvalidInput."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        allowed = "2026-01-31 or 2026-01-31T12:00:00+00:00"
        raise InvalidInput.single("command line", name, repr(text), allowed) from error
    return to_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def printable(text: str) -> str:
    """A target chose these characters; they must not move the cursor of who reads them, nor end a field."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _moment(milliseconds: int) -> str:
    return from_ms(milliseconds).isoformat(timespec="seconds")
