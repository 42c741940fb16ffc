"""One line of an invoice, told from its derivation down to the files that its usage was read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from billing.document import utc_ms, utc_text
from kernel.errors import NotFound
from kernel.window import Window
from metering.usage.model import UsageRow


def explain_line(document: Mapping[str, Any], position: int, rows: Sequence[UsageRow]) -> Iterator[str]:
    """The explanation of line `position`, from 1, as text lines. Raises NotFound.

    Rows of an hour are told as `metering.usage.places` has them: file by its hash, row group, first and last row.

    `rows` are those of the document's period, or none where the document rests on no usage.
    """
    lines = document["lines"]
    if not 1 <= position <= len(lines):
        raise NotFound(f"{document['number']} has lines 1 to {len(lines)}, no {position}")
    line = lines[position - 1]
    yield f"{line['amount']} {document['currency']['code']}  {line['kind']}  {line['description']}"
    yield f"period  {line['period']['start']} to {line['period']['end']}"
    yield from _arithmetic(line["derivation"])
    window = Window(utc_ms(line["period"]["start"]), utc_ms(line["period"]["end"]))
    yield from _hours([row for row in rows if row.hour.intersection(window)])


def _arithmetic(made: Mapping[str, Any]) -> Iterator[str]:
    for fact in made["facts"]:
        yield f"fact  {fact['label']}: {fact['shown']}"
    for part in made.get("parts", ()):
        quantity, rate = part["quantity"], part["rate"]
        yield f"part  {part['label']}: {quantity['exact']} {quantity['unit']} x {rate['exact']} ({rate['basis']})"
        yield f"      = {part['amount']['exact']}"
    quantity, rate = made["quantity"], made["rate"]
    yield f"quantity  {quantity['exact']} {quantity['unit']}"
    if rate:
        yield f"rate  {rate['exact']} = {rate['basis']}"
    yield f"unrounded  {made['unrounded']['exact']}"
    yield f"rounding  {made['rounding']['exact']}"


def _hours(rows: Iterable[UsageRow]) -> Iterator[str]:
    files: set[str] = set()
    for row in sorted(rows, key=lambda one: (one.hour.start_ms, one.project, one.cluster, one.component)):
        gap = f", {row.missing_ms} ms not observed" if row.missing_ms else ""
        rows_read = f"  rows {row.places}" if row.places else ""
        yield (
            f"hour  {utc_text(row.hour.start_ms)} revision {row.revision}  {row.project}/{row.cluster} "
            f"{row.component}: {row.milli_vcpu_ms} milli-vCPU-ms, peak {row.peak_milli_vcpu}{gap}{rows_read}"
        )
        files.update(row.sources)
    for source in sorted(files):
        yield f"file  {source}"
