"""The monthly report as files: canonical JSON, CSV and Parquet of its hours, and the PDF beside them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kernel.errors import Conflict
from kernel.quantity import render_fraction, vcpu_hours
from metering.usage.filling import Filled, estimated_by_row
from metering.usage.model import UsageMonth
from metering.usage.reconciliation import Reconciliation, is_reconciled
from metering.usage.report import MonthlyReport
from metering.usage.report_json import moment_text, render_json
from metering.usage.rows import UsageRow

_SHOWN_PLACES = 10
_CSV_COLUMNS = (
    "organization",
    "project",
    "cluster",
    "component",
    "hour_start",
    "hour_end",
    "revision",
    "milli_vcpu_ms",
    "vcpu_hours",
    "observed_ms",
    "missing_ms",
    "peak_milli_vcpu",
    "reconciled",
    "estimated_ms",
)
_PARQUET_FIELDS: list[pa.Field[Any]] = [
    pa.field("organization", pa.string(), nullable=False),
    pa.field("project", pa.string(), nullable=False),
    pa.field("cluster", pa.string(), nullable=False),
    pa.field("component", pa.string(), nullable=False),
    pa.field("hour_start", pa.timestamp("ms", tz="UTC"), nullable=False),
    pa.field("hour_end", pa.timestamp("ms", tz="UTC"), nullable=False),
    pa.field("revision", pa.int32(), nullable=False),
    pa.field("milli_vcpu_ms", pa.int64(), nullable=False),
    pa.field("observed_ms", pa.int64(), nullable=False),
    pa.field("missing_ms", pa.int64(), nullable=False),
    pa.field("peak_milli_vcpu", pa.int64(), nullable=False),
    pa.field("reconciled", pa.bool_()),  # null: this revision of the hour was not compared
    pa.field("sources", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
]


def render_all(report: MonthlyReport, usage: UsageMonth, folder: Path, language: str = "en") -> tuple[Path, ...]:
    """Write report.json, .csv, .parquet and .pdf (in English or Chinese, en or zh); returns their paths.

    Each file appears whole or not at all, and none before all four are rendered. Blocking. Raises Conflict when
    `usage` is not what the report was made of.
    """
    if usage.revision_digest != report.revision_digest or usage.organization != report.organization:
        raise Conflict(
            f"the report of {report.organization} was made of revisions {report.revision_digest[:16]}, the usage "
            f"given is {usage.revision_digest[:16]} of {usage.organization}; make the report again"
        )
    from metering.usage.report_pdf import render_pdf

    contents = {
        "report.json": render_json(report),
        "report.csv": render_csv(usage, report.reconciliation, report.estimated),
        "report.parquet": render_parquet(usage, report.reconciliation),
        "report.pdf": render_pdf(report, language),
    }
    return _write_all(folder, contents)


def render_csv(usage: UsageMonth, compared: Reconciliation | None = None, estimated: Filled | None = None) -> bytes:
    """One row per hour, cluster and component, in order; UTF-8, line feeds, times in UTC.

    `reconciled` is true or false, and empty where this revision of the hour was not compared. `estimated_ms`: how
    much of `missing_ms` counts at a level by the contract's gap policy; no other column holds it.
    """
    flags = (compared or Reconciliation()).flags()
    ordered = _ordered(usage)
    filled = estimated_by_row(estimated or Filled(usage.step, ()), ordered)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row, estimated_ms in zip(ordered, filled, strict=True):
        writer.writerow(
            (
                row.organization,
                row.project,
                row.cluster,
                row.component,
                moment_text(row.hour.start_ms),
                moment_text(row.hour.end_ms),
                row.revision,
                row.milli_vcpu_ms,
                render_fraction(vcpu_hours(row.milli_vcpu_ms), _SHOWN_PLACES),
                row.observed_ms,
                row.missing_ms,
                row.peak_milli_vcpu,
                {True: "true", False: "false", None: ""}[is_reconciled(row, flags)],
                estimated_ms,
            )
        )
    return text.getvalue().encode()


def render_parquet(usage: UsageMonth, compared: Reconciliation | None = None) -> bytes:
    """The same rows, typed, with the lake files each came from: enough to compute the revision digest again."""
    flags = (compared or Reconciliation()).flags()
    rows = [
        {
            "organization": row.organization,
            "project": row.project,
            "cluster": row.cluster,
            "component": row.component,
            "hour_start": row.hour.start_ms,
            "hour_end": row.hour.end_ms,
            "revision": row.revision,
            "milli_vcpu_ms": row.milli_vcpu_ms,
            "observed_ms": row.observed_ms,
            "missing_ms": row.missing_ms,
            "peak_milli_vcpu": row.peak_milli_vcpu,
            "reconciled": is_reconciled(row, flags),
            "sources": list(row.sources),
        }
        for row in _ordered(usage)
    ]
    origin: dict[bytes | str, bytes | str] = {
        "byoc.organization": usage.organization,
        "byoc.revision_digest": usage.revision_digest,
    }
    schema = pa.schema(_PARQUET_FIELDS, metadata=origin)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _ordered(usage: UsageMonth) -> list[UsageRow]:
    return sorted(usage.rows, key=lambda row: (row.hour, row.project, row.cluster, row.component))


def _write_all(folder: Path, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in contents.items():
        temporary = folder / f".{name}.{os.getpid()}.partial"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.append((temporary, folder / name))
    for temporary, final in written:
        temporary.replace(final)
    return tuple(final for _, final in written)
