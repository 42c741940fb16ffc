"""Reading the tables beside the samples: each row once, whatever crashes left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg import expressions

from kernel.window import DAY_MS, Window
from metering.lake.beside import EXEMPLARS, HISTOGRAMS, METADATA, STARTS, BesideTable, each_once, is_first
from metering.lake.errors import UnknownSnapshot
from metering.lake.faults import translated_errors
from metering.lake.tables import Tables

CONFLICTS = b"byoc.conflicts"
_INSTANT = ("series_id", "timestamp_ms")
# pyiceberg's predicates take (column, value) by place, which their own annotations do not say.
_on: Any = expressions


def scan_histograms(tables: Tables, organization: str, window: Window, tag: str | None = None) -> pa.Table:
    """See `Lake.histograms`. Blocks."""
    rows = choose_histograms(_read_days(tables, HISTOGRAMS, organization, window, tag))
    return rows.drop_columns(["day", "tenant"])


def choose_histograms(rows: pa.Table) -> pa.Table:
    """Of rows of the table one for each series and time, and how many instants had different ones."""
    rows = each_once(HISTOGRAMS, rows)
    # By the rule of samples: of different ones the lower wins, and one with a number over a stale marker.
    rank = rows.append_column("_stale", pc.is_nan(rows.column("sum")))
    by: Any = ["series_id", "timestamp_ms", "_stale", "count", "sum", "message"]
    rows = rows.take(pc.sort_indices(rank, sort_keys=[(name, "ascending") for name in by]))
    first = is_first(rows, _INSTANT)
    conflicts = len(np.unique(np.cumsum(first)[~first]))
    return rows.filter(pa.array(first)).replace_schema_metadata({CONFLICTS: str(conflicts).encode()})


def scan_exemplars(tables: Tables, organization: str, window: Window) -> pa.Table:
    """See `Lake.exemplars`. Blocks."""
    return each_once(EXEMPLARS, _read_days(tables, EXEMPLARS, organization, window)).drop_columns(["day", "tenant"])


def scan_starts(
    tables: Tables, organization: str, window: Window, series_ids: Sequence[bytes] | None = None
) -> pa.Table:
    """See `Lake.starts`. Blocks."""
    chosen = _on.And(_on.EqualTo("organization", organization), _on.LessThan("seen_ms", window.end_ms))
    rows = _read(tables, STARTS, chosen)
    if series_ids is not None:
        rows = rows.filter(pc.is_in(rows.column("series_id"), pa.array(series_ids, pa.binary(16))))
    return choose_starts(rows, window.start_ms).drop_columns(["organization"])


def choose_starts(rows: pa.Table, since_ms: int) -> pa.Table:
    """Of rows of the table those that stand from a time on, each start once, with the start before it."""
    rows = each_once(STARTS, rows)
    by: Any = [("series_id", "ascending"), ("seen_ms", "ascending"), ("start_ms", "ascending")]
    rows = rows.take(pc.sort_indices(rows, sort_keys=by))
    first, seen = is_first(rows, ("series_id",)), rows.column("seen_ms").to_numpy()
    starts = rows.column("start_ms").to_numpy()
    previous = np.zeros(len(rows), np.int64)
    previous[1:] = np.where(first[1:], 0, starts[:-1])
    rows = rows.append_column("previous_ms", pa.array(previous))
    # Of what came before the window the last start of each series, which still stands at its beginning.
    is_last_before = np.ones(len(rows), np.bool_)
    is_last_before[:-1] = first[1:] | (seen[1:] >= since_ms)
    return rows.filter(pa.array((seen >= since_ms) | is_last_before))


def scan_metadata(tables: Tables, organization: str, project: str | None = None) -> pa.Table:
    """See `Lake.metadata`. Blocks."""
    chosen = _on.EqualTo("organization", organization)
    if project is not None:
        chosen = _on.And(chosen, _on.EqualTo("project", project))
    return choose_metadata(_read(tables, METADATA, chosen))


def choose_metadata(rows: pa.Table) -> pa.Table:
    """Of rows of the table what each source said last of a family."""
    rows = each_once(METADATA, rows)
    names = ("project", "collector", "family", "seen_ms", "type", "unit", "help")
    by: Any = [(name, "descending" if name == "seen_ms" else "ascending") for name in names]
    rows = rows.take(pc.sort_indices(rows, sort_keys=by))
    return rows.filter(pa.array(is_first(rows, ("project", "collector", "family"))))


def _read_days(
    tables: Tables, table: BesideTable, organization: str, window: Window, tag: str | None = None
) -> pa.Table:
    first, last = (str(np.datetime64(at // DAY_MS, "D")) for at in (window.start_ms, window.end_ms - 1))
    chosen = _on.And(
        _on.StartsWith("tenant", f"{organization}/"),
        _on.GreaterThanOrEqual("day", first),
        _on.LessThanOrEqual("day", last),
        _on.GreaterThanOrEqual("timestamp_ms", window.start_ms),
        _on.LessThan("timestamp_ms", window.end_ms),
    )
    return _read(tables, table, chosen, tag)


def _read(tables: Tables, table: BesideTable, chosen: Any, tag: str | None = None) -> pa.Table:
    loaded = tables.load(table.identifier)
    snapshot_id = None
    if tag is not None:
        if tag not in loaded.metadata.refs:
            raise UnknownSnapshot(f"the table {table.name} has no tag {tag!r}")
        snapshot_id = loaded.metadata.refs[tag].snapshot_id
    with translated_errors(f"reading {table.name}"):
        found = loaded.scan(row_filter=chosen, snapshot_id=snapshot_id).to_arrow()
    return found.select(list(table.columns)).cast(table.arrow).combine_chunks()
