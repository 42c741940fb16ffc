"""What is pending beside the samples, as rows of its tables: one file for each partition of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernel.ids import Tenant
from kernel.window import DAY_MS
from metering.lake.beside import (
    BESIDE,
    EXEMPLARS,
    HISTOGRAMS,
    METADATA,
    STARTS,
    BesideTable,
    each_once,
    render,
)
from metering.lake.beside_rows import ExemplarRows, FamilyRow, HistogramRows, PendingBeside, StartRows
from metering.lake.histogram_head import HistogramHead, parse_head
from metering.lake.series import SeriesIndex


def beside_contents(pending: PendingBeside, series: SeriesIndex) -> Iterator[tuple[BesideTable, str, int, bytes]]:
    """Table, folder below its data, rows and content of each file; tables in the order of their commits."""
    made: Mapping[BesideTable, Iterator[tuple[str, pa.Table]]] = {
        HISTOGRAMS: _histograms(pending.histograms, series),
        EXEMPLARS: _exemplars(pending.exemplars, series),
        STARTS: _starts(pending.starts, series),
        METADATA: _metadata(pending.metadata),
    }
    for table in BESIDE:
        for folder, rows in made[table]:
            once = each_once(table, rows)
            yield table, folder, len(once), render(table, once)


def _histograms(
    pending: Mapping[Tenant, Sequence[HistogramRows]], series: SeriesIndex
) -> Iterator[tuple[str, pa.Table]]:
    for tenant, parts in sorted(pending.items()):
        messages = [message for part in parts for message in part.messages]
        heads = list(map(parse_head, messages))
        columns = dict(zip(HistogramHead._fields, zip(*heads, strict=True), strict=True))
        columns["count"] = columns.pop("observations")
        slots = np.concatenate([part.slots for part in parts])
        found = {"series_id": _ids(series, slots), **columns, "message": messages}
        yield from _by_day(HISTOGRAMS, found, np.array(columns["timestamp_ms"], np.int64), tenant)


def _exemplars(
    pending: Mapping[Tenant, Sequence[ExemplarRows]], series: SeriesIndex
) -> Iterator[tuple[str, pa.Table]]:
    for tenant, parts in sorted(pending.items()):
        times = np.concatenate([part.timestamps_ms for part in parts])
        found = {
            "series_id": _ids(series, np.concatenate([part.slots for part in parts])),
            "timestamp_ms": times,
            "value": np.concatenate([part.values for part in parts]),
            "labels": [labels for part in parts for labels in part.labels],
        }
        yield from _by_day(EXEMPLARS, found, times, tenant)


def _by_day(
    table: BesideTable, columns: Mapping[str, Any], times: Any, tenant: Tenant
) -> Iterator[tuple[str, pa.Table]]:
    days = times // DAY_MS
    arrays = [
        pa.array(days.astype(np.int32)).cast(kind)
        if name == "day"
        else pa.array([str(tenant)] * len(days), kind)
        if name == "tenant"
        else pa.array(columns[name], kind)
        for name, kind in table.columns.items()
    ]
    whole = pa.table(arrays, schema=table.arrow)
    for day in np.unique(days).tolist():
        folder = f"{np.datetime64(day, 'D')}/{tenant.organization}/{tenant.project}"
        yield folder, whole.filter(pa.array(days == day))


def _starts(pending: Mapping[Tenant, Sequence[StartRows]], series: SeriesIndex) -> Iterator[tuple[str, pa.Table]]:
    by_organization: dict[str, list[StartRows]] = {}
    for tenant, parts in sorted(pending.items()):
        by_organization.setdefault(tenant.organization, []).extend(parts)
    for organization, parts in by_organization.items():
        slots = np.concatenate([part.slots for part in parts])
        columns = [
            pa.array(_ids(series, slots), pa.binary(16)),
            pa.array(np.concatenate([part.starts_ms for part in parts])),
            pa.array(np.concatenate([part.seen_ms for part in parts])),
            pa.array([organization] * len(slots), pa.string()),
        ]
        yield organization, pa.table(columns, schema=STARTS.arrow)


def _metadata(pending: Sequence[FamilyRow]) -> Iterator[tuple[str, pa.Table]]:
    by_organization: dict[str, list[FamilyRow]] = {}
    for row in pending:
        by_organization.setdefault(row.tenant.organization, []).append(row)
    for organization, rows in sorted(by_organization.items()):
        listed = [
            {
                "organization": organization,
                "project": row.tenant.project,
                "collector": row.collector,
                "family": row.told.family,
                "type": row.told.type,
                "unit": row.told.unit,
                "help": row.told.help,
                "seen_ms": row.seen_ms,
            }
            for row in rows
        ]
        yield organization, pa.Table.from_pylist(listed, schema=METADATA.arrow)


def _ids(series: SeriesIndex, slots: Any) -> list[bytes]:
    return [each.tobytes() for each in series.ids(slots)]
