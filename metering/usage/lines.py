"""Sealed hours, gaps and differences as lines of text for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from kernel.quantity import render_fraction, vcpu_hours
from kernel.window import HOUR_MS
from metering.meters.catalogue import Kind, Meter
from metering.usage.filling import Filled, estimated_by_row
from metering.usage.gap_spans import GapSpan
from metering.usage.model import MeterRow, MeterUsage, UsageMonth
from metering.usage.places import ranges_of
from metering.usage.reconciliation import Reconciliation, is_reconciled
from metering.usage.rows import UsageRow
from metering.usage.settings import UsageSettings

_PLACES = 6


def difference_lines(found: Reconciliation, settings: UsageSettings) -> Iterator[str]:
    """What was scraped and what the provisioner declared, where they differ."""
    layout = "{:<17} {:>5}  {:<40} {:<15} {:>14} {:>14} {:>14} {:>14}"
    spans = found.spans()
    if spans:
        names = ("hours", "cluster", "is", "scraped", "declared least", "most vCPU-h", "outside")
        yield layout.format("from (UTC)", *names)
    for span in spans:
        quantities = (
            render_fraction(vcpu_hours(each), 4) for each in (span.scraped, span.least, span.most, span.outside)
        )
        name = f"{span.project}/{span.cluster}"
        start = f"{span.window.start:%Y-%m-%d %H:%M}"
        yield layout.format(start, span.hours, name, span.difference.value, *quantities)
    for kind in sorted({span.difference for span in spans}):
        yield f"{kind.value}: {kind.meaning}"
    yield f"{found.compared} cluster-hours compared, {found.differing} differ"
    if found.differing:
        share = Fraction(str(settings.reconcile_ratio)) * 100
        yield (
            f"by more than {settings.reconcile_vcpu_minutes:g} vCPU-minutes and {render_fraction(share, 2)} % of "
            "what was declared (usage.reconcile_vcpu_minutes, usage.reconcile_ratio)"
        )


def gap_lines(found: Sequence[GapSpan]) -> Iterator[str]:
    """When components were not observed, and their sum."""
    layout = "{:<23} {:<23} {:<40} {:>12} {:>12}"
    if found:
        yield layout.format("from (UTC)", "to", "component", "missing s", "vCPU before")
    for gap in found:
        start, end = (
            f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}" for at in (gap.window.start, gap.window.end)
        )
        level = "-" if gap.milli_vcpu is None else _thousandths(gap.milli_vcpu)
        name = f"{gap.project}/{gap.cluster}/{gap.component}"
        yield layout.format(start, end, name, _thousandths(gap.missing_ms), level)
    yield f"{len(found)} gaps, {_thousandths(sum(gap.missing_ms for gap in found))} component-seconds without data"


def hour_lines(usage: UsageMonth, compared: Reconciliation, filled: Filled, *, files: bool) -> Iterator[str]:
    """A row for each hour and component of the licence meter, and where its samples stand if asked for."""
    layout = "{:<17} {:>3}  {:<40} {:>14} {:>10} {:>10} {:>10} {:>12} {:>10}"
    names = ("hour (UTC)", "rev", "component", "vCPU-hours", "peak vCPU", "observed s", "missing s", "estimated s")
    yield layout.format(*names, "reconciled")
    flags = compared.flags()
    for row, estimated_ms in zip(usage.rows, estimated_by_row(filled, usage.rows), strict=True):
        yield layout.format(
            f"{row.hour.start:%Y-%m-%d %H:%M}",
            row.revision,
            f"{row.project}/{row.cluster}/{row.component}",
            render_fraction(vcpu_hours(row.milli_vcpu_ms), _PLACES),
            _thousandths(row.peak_milli_vcpu),
            _thousandths(row.observed_ms),
            _thousandths(row.missing_ms),
            f"{_thousandths(estimated_ms)} *" if estimated_ms else "-",
            {True: "yes", False: "no", None: "-"}[is_reconciled(row, flags)],
        )
        if files:
            yield from _places(row)
    if filled.stretches:
        hours = render_fraction(Fraction(filled.estimated_ms, HOUR_MS), 3)
        quantity = render_fraction(vcpu_hours(filled.milli_vcpu_ms), _PLACES)
        yield f"* {hours} component-hours are estimated by the contract's gap policy: {quantity} vCPU-hours more"
    yield f"digest {usage.revision_digest}" + _open(is_sealed=usage.sealed)


def meter_lines(usage: MeterUsage, *, files: bool) -> Iterator[str]:
    """A row for each hour of a meter of the catalogue, in its unit; of a percentile the mean over the hour."""
    meter = Meter.model_validate_json(usage.definition)
    layout = "{:<17} {:>3}  {:<40} {:>20} {:>10} {:>10} {:>12}"
    yield layout.format("hour (UTC)", "rev", "of", usage.unit, "observed s", "missing s", "estimated s")
    for row in sorted(usage.rows, key=lambda one: (one.hour.start_ms, one.project, one.cluster, one.dimensions)):
        labels = "".join(f" {name}={value}" for name, value in row.dimensions)
        length = row.hour.length_ms if meter.kind is Kind.PERCENTILE else 1
        yield layout.format(
            f"{row.hour.start:%Y-%m-%d %H:%M}",
            row.revision,
            f"{row.project}/{row.cluster}{labels}",
            render_fraction(meter.in_units(Fraction(row.quantity, length)), _PLACES),
            _thousandths(row.observed_ms),
            _thousandths(row.missing_ms),
            f"{_thousandths(row.estimated_ms)} *" if row.estimated_ms else "-",
        )
        if files:
            yield from _places(row)
    for part in usage.parts:
        yield f"{usage.meter} of the window: {render_fraction(part.quantity, _PLACES)} {usage.unit}"
    yield f"catalogue {usage.catalogue}, digest {usage.revision_digest}" + _open(is_sealed=usage.sealed)


def _places(row: UsageRow | MeterRow) -> Iterator[str]:
    for each in ranges_of(row):
        among = "" if each.count == each.last - each.first + 1 else f", {each.count} of them"
        yield f"    {each.source} row group {each.row_group} rows {each.first} to {each.last}{among}"


def _open(*, is_sealed: bool) -> str:
    return "" if is_sealed else "  (not every hour is closed)"


def _thousandths(value: int) -> str:
    return render_fraction(Fraction(value, 1000), 3)
