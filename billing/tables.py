"""The lines of a document as a table: CSV for a spreadsheet, Parquet for a warehouse. Same document, same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

COLUMNS = (
    "number",
    "organization",
    "issue_date",
    "line",
    "kind",
    "description",
    "group",
    "period_start",
    "period_end",
    "quantity",
    "quantity_exact",
    "unit",
    "rate_exact",
    "amount",
    "currency",
    "tax_category",
    "tax_rate",
    "informational",
    "corrects",
)
ColumnType = Literal["amount", "integer", "truth", "moment", "day", "text"]
_TYPES: Mapping[str, ColumnType] = {
    "line": "integer",
    "period_start": "moment",
    "period_end": "moment",
    "amount": "amount",
    "informational": "truth",
}
_AMOUNT_PLACES = 4  # the most that a currency of ISO 4217 has


def line_rows(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A row for each line, all text; what a line has not is empty. `quantity_exact` may be a fraction: `3/1752`."""
    for position, line in enumerate(document["lines"], start=1):
        made, tax = line["derivation"], line["tax"]
        values = (
            document["number"] or "",
            document["customer"]["organization"],
            document["issue_date"] or "",
            str(position),
            line["kind"],
            line["description"],
            line.get("group", ""),
            line["period"]["start"],
            line["period"]["end"],
            made["quantity"]["shown"],
            made["quantity"]["exact"],
            made["quantity"]["unit"],
            made["rate"]["exact"] if made["rate"] else "",
            line["amount"],
            document["currency"]["code"],
            tax["category"] if tax else "",
            tax["rate"] if tax else "",
            "true" if line["informational"] else "false",
            line.get("corrects", ""),
        )
        yield dict(zip(COLUMNS, values, strict=True))


def render_csv(rows: Iterator[dict[str, str]] | list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> bytes:
    """UTF-8 with line feeds and a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def lines_csv(document: bytes) -> bytes:
    """The lines of a document's canonical JSON as CSV."""
    return render_csv(line_rows(json.loads(document)))


def lines_parquet(document: bytes) -> bytes:
    """The same as Parquet: amounts are decimals, times are timestamps, empty is null."""
    return render_parquet(line_rows(json.loads(document)), COLUMNS, _TYPES)


def render_parquet(
    rows: Iterable[Mapping[str, str]], columns: tuple[str, ...], types: Mapping[str, ColumnType]
) -> bytes:
    """Rows of text as Parquet, zstd; what is empty is null. The same rows, the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, tuple[pa.DataType, Callable[[str], Any]]] = {
        "amount": (pa.decimal128(38, _AMOUNT_PLACES), lambda text: Decimal(text or "0")),
        "integer": (pa.int32(), int),
        "truth": (pa.bool_(), lambda text: text == "true"),
        "moment": (pa.timestamp("ms", "UTC"), datetime.fromisoformat),
        "day": (pa.date32(), lambda text: date.fromisoformat(text) if text else None),
        "text": (pa.string(), lambda text: text or None),
    }
    typed = {name: kinds[types.get(name, "text")] for name in columns}
    values = [{name: parse(row[name]) for name, (_, parse) in typed.items()} for row in rows]
    schema = pa.schema([(name, kind) for name, (kind, _) in typed.items()])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(values, schema), out, compression="zstd")
    return out.getvalue()
