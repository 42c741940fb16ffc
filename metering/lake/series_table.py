"""Reading the series table. A series may be stored more than once (a crash, two writers); it is read once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg import expressions
from pyiceberg.table import Table

from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant
from metering.lake.faults import translated_errors
from metering.lake.merging import id_bytes
from metering.lake.rows import id_words
from metering.lake.series import Series, SeriesIndex
from metering.lake.tables import SERIES, Tables

# pyiceberg's predicates take (column, value) by place, which their own annotations do not say.
_on: Any = expressions


def read_series(
    tables: Tables, organization: str, names: Sequence[str] | None = None, project: str | None = None
) -> pa.Table:
    """Series of an organization, each once, ordered by id. Blocks. Raises LakeUnavailable."""
    table = tables.load(SERIES)
    snapshot = table.current_snapshot()
    question = snapshot and snapshot.snapshot_id, organization, names and tuple(names), project
    return tables.series.get(question, lambda: _read(table, organization, names, project))


def _read(table: Table, organization: str, names: Sequence[str] | None, project: str | None) -> pa.Table:
    chosen = _on.EqualTo("organization", organization)
    if names is not None:
        chosen = _on.And(chosen, _on.In("name", list(names)))
    if project is not None:
        chosen = _on.And(chosen, _on.EqualTo("project", project))
    with translated_errors("reading series"):
        found = table.scan(row_filter=chosen).to_arrow().combine_chunks()
    high, low = id_words(id_bytes(found.column("series_id")))
    order = np.lexsort((low, high))
    first = np.ones(len(order), np.bool_)
    first[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    return found.take(order[first])


def learn_stored(tables: Tables, index: SeriesIndex, limit: int) -> None:
    """Tell the index what the table holds, up to `limit` series. Blocks. Raises LakeUnavailable."""
    with translated_errors("reading series"):
        for batch in tables.load(SERIES).scan(limit=limit).to_arrow_batch_reader():
            index.learn(_series(row) for row in batch.to_pylist())
            if index.is_over(limit):
                return


def _series(row: dict[str, Any]) -> Series:
    tenant = Tenant(OrganizationId(row["organization"]), ProjectId(row["project"]))
    return Series(tenant, CollectorId(row["collector"]), row["name"], row["labels"])
