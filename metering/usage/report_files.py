"""The monthly report as files: canonical JSON, CSV and Parquet of its hours, and the PDF beside them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import rfc8785

from kernel.clock import from_ms
from kernel.errors import Conflict
from kernel.quantity import render_fraction, vcpu_hours, vcpu_minutes
from kernel.window import Window
from metering.usage.filling import Filled, estimated_by_row
from metering.usage.model import UsageMonth
from metering.usage.reconciliation import DifferenceSpan, Reconciliation, is_reconciled
from metering.usage.report import ComponentTotal, DayTotal, Gap, LicenceCoverage, MonthlyReport
from metering.usage.rows import UsageRow

SCHEMA = "byoc.usage-report/1"
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


def render_json(report: MonthlyReport) -> bytes:
    """Canonical JSON (RFC 8785). Quantities are strings: a month of them passes 2^53."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "organization": report.organization,
        "month": report.month,
        "zone": report.zone,
        "window": _window(report.window),
        "sealed": report.sealed,
        "revision_digest": report.revision_digest,
        **({"estimated": _estimated(report.estimated)} if report.estimated else {}),
        "total": {
            **_quantity(report.milli_vcpu_ms),
            "observed_ms": str(report.observed_ms),
            "missing_ms": str(report.missing_ms),
        },
        "components": [_component(total) for total in report.components],
        "days": [_day(day, with_capacity=report.coverage is not None) for day in report.days],
        "peak": report.peak and {"milli_vcpu": str(report.peak.milli_vcpu), "at": _moment(report.peak.at_ms)},
        "licence": report.coverage and _licence(report.coverage),
        "gaps": [_gap(gap) for gap in report.gaps],
        "reconciliation": report.reconciliation and _reconciliation(report.reconciliation),
    }
    return bytes(rfc8785.dumps(document))


def _estimated(filled: Filled) -> dict[str, Any]:
    return {
        **_quantity(filled.milli_vcpu_ms),
        "estimated_ms": str(filled.estimated_ms),
        "stretches": [
            {
                "project": each.project,
                "cluster": each.cluster,
                "component": each.component,
                **_window(each.window),
                "milli_vcpu": str(each.milli_vcpu),
            }
            for each in filled.stretches
        ],
    }


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
                _moment(row.hour.start_ms),
                _moment(row.hour.end_ms),
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


def _moment(at_ms: int) -> str:
    return from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _window(window: Window) -> dict[str, str]:
    return {"start": _moment(window.start_ms), "end": _moment(window.end_ms)}


def _quantity(milli_vcpu_ms: int) -> dict[str, str]:
    hours = vcpu_hours(milli_vcpu_ms)
    return {
        "milli_vcpu_ms": str(milli_vcpu_ms),
        "vcpu_hours": render_fraction(hours, _SHOWN_PLACES),
        "vcpu_hours_exact": _exact(hours),
    }


def _exact(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _component(total: ComponentTotal) -> dict[str, str]:
    return {
        "project": total.project,
        "cluster": total.cluster,
        "component": total.component,
        **_quantity(total.milli_vcpu_ms),
        "observed_ms": str(total.observed_ms),
        "missing_ms": str(total.missing_ms),
        "peak_milli_vcpu": str(total.peak_milli_vcpu),
    }


def _day(day: DayTotal, *, with_capacity: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "day": day.day.isoformat(),
        "window": _window(day.window),
        **_quantity(day.milli_vcpu_ms),
        "peak_milli_vcpu": str(day.peak_milli_vcpu),
        "observed_ms": str(day.observed_ms),
        "missing_ms": str(day.missing_ms),
    }
    if with_capacity:
        content["capacity_milli_vcpu_ms"] = str(day.capacity_milli_vcpu_ms)
        content["overage_milli_vcpu_ms"] = str(day.overage_milli_vcpu_ms)
    return content


def _licence(coverage: LicenceCoverage) -> dict[str, Any]:
    minutes = vcpu_minutes(coverage.overage_milli_vcpu_ms)
    used = coverage.used_share
    return {
        "capacity_milli_vcpu_ms": str(coverage.capacity_milli_vcpu_ms),
        "within_milli_vcpu_ms": str(coverage.within_milli_vcpu_ms),
        "overage_milli_vcpu_ms": str(coverage.overage_milli_vcpu_ms),
        "overage_vcpu_minutes": render_fraction(minutes, _SHOWN_PLACES),
        "overage_vcpu_minutes_exact": _exact(minutes),
        "over_ms": str(coverage.over_ms),
        "over_share": render_fraction(coverage.over_share, _SHOWN_PLACES),
        "used_share": None if used is None else render_fraction(used, _SHOWN_PLACES),
    }


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "project": gap.project,
        "cluster": gap.cluster,
        "component": gap.component,
        "window": _window(gap.window),
        "missing_ms": str(gap.missing_ms),
    }


def _reconciliation(compared: Reconciliation) -> dict[str, Any]:
    return {
        "cluster_hours": str(compared.compared),
        "differing": str(compared.differing),
        "differences": [_difference(span) for span in compared.spans()],
    }


def _difference(span: DifferenceSpan) -> dict[str, Any]:
    return {
        "project": span.project,
        "cluster": span.cluster,
        "window": _window(span.window),
        "difference": span.difference.value,
        "hours": str(span.hours),
        "scraped_milli_vcpu_ms": str(span.scraped),
        "declared_least_milli_vcpu_ms": str(span.least),
        "declared_most_milli_vcpu_ms": str(span.most),
    }


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
