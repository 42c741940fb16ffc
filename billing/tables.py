"""The lines of a document as a table: CSV for a spreadsheet, Parquet for a warehouse. Same document, same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

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
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = [{name: value or None for name, value in row.items()} for row in line_rows(json.loads(document))]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in COLUMNS]))
    typed: dict[str, Any] = {
        "line": pc.cast(table["line"], pa.int32()),
        "informational": pa.array([row["informational"] == "true" for row in rows]),
        "amount": pa.array([Decimal(row["amount"] or "0") for row in rows], pa.decimal128(38, _AMOUNT_PLACES)),
    }
    for name in ("period_start", "period_end"):
        moments = pc.strptime(pc.utf8_slice_codeunits(table[name], 0, 19), format="%Y-%m-%dT%H:%M:%S", unit="ms")
        typed[name] = pc.assume_timezone(moments, "UTC")
    for name, values in typed.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
