"""The monthly report as canonical JSON."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import rfc8785

from kernel.clock import from_ms
from kernel.quantity import render_fraction, vcpu_hours, vcpu_minutes
from kernel.window import Window
from metering.usage.filling import Filled
from metering.usage.reconciliation import DifferenceSpan, Reconciliation
from metering.usage.report import ComponentTotal, DayTotal, Gap, LicenceCoverage, MonthlyReport

SCHEMA = "byoc.usage-report/1"
_SHOWN_PLACES = 10


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
        "peak": report.peak and {"milli_vcpu": str(report.peak.milli_vcpu), "at": moment_text(report.peak.at_ms)},
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


def moment_text(at_ms: int) -> str:
    """A moment as `2026-11-01T00:00:00.000Z`."""
    return from_ms(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _window(window: Window) -> dict[str, str]:
    return {"start": moment_text(window.start_ms), "end": moment_text(window.end_ms)}


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
