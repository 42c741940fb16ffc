"""Rows of a meter as they are stored, and as the lines that an invoice's Merkle root is over. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kernel.errors import InvalidInput
from metering.meters.hours import RowHour
from metering.usage.model import MeterRequest

_FIELDS = 10


class SealedRow(NamedTuple):
    """A row of an hour as it is stored. `dimensions` and `figures` are JSON: `render_figures`."""

    hour_ms: int
    revision: int
    number: int
    project: str
    cluster: str
    dimensions: str
    figures: str
    sources: tuple[str, ...]
    places: str = ""  # no part of the leaf: merging moves rows and changes nothing


def render_dimensions(row: RowHour) -> str:
    """`SealedRow.dimensions` of a row."""
    return json.dumps(row.key.dimensions)


def render_figures(row: RowHour) -> str:
    """`SealedRow.figures` of a row: quarters, levels and values where its kind has them."""
    quarters = [[each.quantity, each.held_on, each.observed_ms, each.missing_ms] for each in row.pieces]
    figures: dict[str, Any] = {"quarters": quarters}
    if row.points:
        figures["points"] = row.points
    if row.values is not None:
        figures["values"] = row.values
    return json.dumps(figures, separators=(",", ":"), sort_keys=True)


def canonical_leaf(request: MeterRequest, row: SealedRow) -> bytes:
    """A row as tab-separated text that ends in a line feed; ids hold neither, and JSON escapes both."""
    hour_ms, revision, number, project, cluster, dimensions, figures, sources, _ = row
    return (
        f"{request.organization}\t{request.meter}\t{hour_ms}\t{revision}\t{number}\t{project}\t{cluster}"
        f"\t{dimensions}\t{figures}\t{','.join(sources)}\n"
    ).encode()


def parse_leaves(content: bytes, request: MeterRequest, source: str) -> tuple[SealedRow, ...]:
    """The rows of sorted leaves, each after the one before. Raises InvalidInput with the line."""
    rows, before = [], b""
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        where = f"line {number}"
        try:
            fields = line.decode().removesuffix("\n").split("\t")
            if len(fields) != _FIELDS:
                raise ValueError(f"{len(fields)} fields")
            hour_ms, revision, count = map(int, fields[2:5])
            project, cluster, dimensions, figures, named = fields[5:]
            sources = tuple(named.split(",")) if named else ()
            row = SealedRow(hour_ms, revision, count, project, cluster, dimensions, figures, sources)
        except ValueError as error:
            allowed = f"a row of a meter, of {_FIELDS} fields"
            raise InvalidInput.single(source, where, str(error), allowed) from error
        if canonical_leaf(request, row) != line:
            raise InvalidInput.single(source, where, "another row or spelling", f"a row of {request.meter}")
        if line <= before:
            raise InvalidInput.single(source, where, "a line that is not after the one before", "sorted lines")
        rows.append(row)
        before = line
    return tuple(sorted(rows))
