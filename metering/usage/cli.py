"""`byoc usage`: the monthly report as files, and the hours behind it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Protocol

import typer

from kernel.clock import Clock, to_ms
from kernel.database import Database
from kernel.errors import ByocError, InvalidInput, NotFound
from kernel.ids import OrganizationId, parse_id
from kernel.quantity import render_fraction, vcpu_hours
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, month
from metering.usage.filling import Filled, estimated_by_row, fill
from metering.usage.gap_spans import GapSpan, gap_spans
from metering.usage.model import NOT_BILLED, GapRule, UsageMonth
from metering.usage.places import ranges_of
from metering.usage.reconciler import Reconciler
from metering.usage.reconciliation import Reconciliation, is_reconciled
from metering.usage.reconciliation_store import ReconciliationStore
from metering.usage.report import monthly_report, with_estimates
from metering.usage.report_files import render_all, render_csv
from metering.usage.settings import UsageSettings
from metering.usage.store import UsageStore

MAX_HOURS = 24 * 400

app = typer.Typer(no_args_is_help=True, help="Hourly usage and the monthly report.")

Organization = Annotated[str, typer.Argument(metavar="ORG", help="The organization's id.")]


class UsageDeployment(Protocol):
    """What these commands need of the deployment.

    It may also have `capacity_of(organization) -> StepFunction`, `language_of(organization) -> str`,
    `zone_of(organization, month) -> str`, `gap_rule_of(organization, window) -> GapRule`, and
    `declared(organization)` of `DeclaredUsage`.
    """

    clock: Clock

    def database(self) -> Database:
        """The database that holds the sealed hours."""

    def section(self, name: str, model: type[UsageSettings]) -> UsageSettings:
        """The settings of that section."""


@app.command("report")
def write_report(
    ctx: typer.Context,
    organization: Organization,
    month_name: Annotated[str, typer.Argument(metavar="MONTH", help="YYYY-MM.")],
    out: Annotated[Path, typer.Option(help="Folder for report.json, .csv, .parquet and .pdf.")],
    zone: Annotated[
        str | None,
        typer.Option(help="IANA time zone of the month's and the days' edges. Default: the customer's contract's."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the PDF: en or zh. Default: the language of the customer's contract.")
    ] = None,
) -> None:
    """Write the monthly licence and usage report. Of an open month it is marked as provisional."""
    owner = OrganizationId(parse_id(organization, "organization"))
    zone = zone or _zone(ctx, owner, month_name)
    usage = _usage(ctx, owner, month(month_name, zone))
    compared = _compared(ctx, owner, usage.window)
    report = monthly_report(usage, _capacity(ctx, owner), month_name, zone, compared)
    report = with_estimates(report, usage, _gap_rule(ctx, owner, usage.window))
    try:
        written = render_all(report, usage, out, language or _language(ctx, owner))
    except OSError as error:
        raise ByocError(f"the report can't be written to {out}: {error.strerror}; choose another --out") from error
    for path in written:
        typer.echo(path)
    if not report.sealed:
        typer.echo("provisional: not every hour of the month is closed", err=True)


@app.command("hours")
def list_hours(
    ctx: typer.Context,
    organization: Organization,
    start: Annotated[str, typer.Option("--from", help="First hour, ISO 8601; UTC unless it says otherwise.")],
    end: Annotated[str, typer.Option("--to", help="End (exclusive), ISO 8601.")],
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with every column instead of a table.")] = False,
    files: Annotated[
        bool, typer.Option("--files", help="Below each row where in the lake its samples stand.")
    ] = False,
) -> None:
    """List the newest revision of each hour, component by component, and what of it is estimated (`*`)."""
    owner = OrganizationId(parse_id(organization, "organization"))
    usage = _usage(ctx, owner, parse_hours(start, end))
    compared = _compared(ctx, owner, usage.window)
    filled = fill(usage, _gap_rule(ctx, owner, usage.window))
    if as_csv:
        typer.echo(render_csv(usage, compared, filled).decode(), nl=False)
        return
    for line in _table(usage, compared, filled, files=files):
        typer.echo(line)


@app.command("gaps")
def list_gaps(
    ctx: typer.Context,
    organization: Organization,
    start: Annotated[str, typer.Option("--from", help="First hour, ISO 8601; UTC unless it says otherwise.")],
    end: Annotated[str, typer.Option("--to", help="End (exclusive), ISO 8601.")],
) -> None:
    """List when components were not observed, and the level that each had before."""
    owner = OrganizationId(parse_id(organization, "organization"))
    for line in _gaps(gap_spans(_usage(ctx, owner, parse_hours(start, end)).rows)):
        typer.echo(line)


@app.command("reconcile")
def reconcile_hours(
    ctx: typer.Context,
    organization: Organization,
    start: Annotated[str, typer.Option("--from", help="First hour, ISO 8601; UTC unless it says otherwise.")],
    end: Annotated[str, typer.Option("--to", help="End (exclusive), ISO 8601.")],
) -> None:
    """Compare closed hours with what the provisioner declared. Exit status 1 when any differs."""
    owner, window = OrganizationId(parse_id(organization, "organization")), parse_hours(start, end)
    _usage(ctx, owner, window)
    deployment: UsageDeployment = ctx.obj
    settings = deployment.section("usage", UsageSettings)
    found = Reconciler(deployment.database(), ctx.obj, settings, deployment.clock).reconcile(owner, window)
    for line in _differences(found, settings):
        typer.echo(line)
    closed = len(ReconciliationStore(deployment.database()).revisions(owner, window))
    hours = window.length_ms // HOUR_MS
    if closed < hours:
        typer.echo(f"{closed} of {hours} hours are closed; the others are not compared yet")
    if found.differing:
        raise typer.Exit(1)


def parse_hours(start: str, end: str) -> Window:
    """The window of two ISO 8601 moments at whole UTC hours, at most 400 days. Raises InvalidInput."""
    start_ms, end_ms = _parse_hour(start, "--from"), _parse_hour(end, "--to")
    if not 0 < end_ms - start_ms <= MAX_HOURS * HOUR_MS:
        raise InvalidInput.single("usage hours", "--to", end, f"1 to {MAX_HOURS} hours after --from")
    return Window(start_ms, end_ms)


def _parse_hour(text: str, option: str) -> int:
    allowed = "a whole hour in ISO 8601, such as 2026-02-01T00:00Z or 2026-02-01"
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        at_ms = to_ms(aware)
        exact = aware.microsecond % 1000 == 0
    except (ValueError, OverflowError) as error:
        raise InvalidInput.single("usage hours", option, repr(text), allowed) from error
    if at_ms % HOUR_MS or not exact:
        raise InvalidInput.single("usage hours", option, repr(text), allowed)
    return at_ms


def _usage(ctx: typer.Context, organization: OrganizationId, window: Window) -> UsageMonth:
    deployment: UsageDeployment = ctx.obj
    usage = UsageStore(deployment.database()).month(organization, window)
    if not usage.rows and not usage.sealed:
        raise NotFound(f"no closed hour of {organization} in {window}; `byoc lake info` says what has arrived")
    return usage


def _language(ctx: typer.Context, organization: OrganizationId) -> str:
    language_of = getattr(ctx.obj, "language_of", None)
    return str(language_of(organization)) if language_of else "en"


def _zone(ctx: typer.Context, organization: OrganizationId, name: str) -> str:
    zone_of = getattr(ctx.obj, "zone_of", None)
    return str(zone_of(organization, name)) if zone_of else "Etc/UTC"


def _gap_rule(ctx: typer.Context, organization: OrganizationId, window: Window) -> GapRule:
    rule_of = getattr(ctx.obj, "gap_rule_of", None)
    if rule_of is None:
        return NOT_BILLED
    rule = rule_of(organization, window)
    assert isinstance(rule, GapRule)
    return rule


def _capacity(ctx: typer.Context, organization: OrganizationId) -> StepFunction | None:
    capacity_of = getattr(ctx.obj, "capacity_of", None)
    if capacity_of is None:
        return None
    capacity = capacity_of(organization)
    assert isinstance(capacity, StepFunction)
    return capacity


def _compared(ctx: typer.Context, organization: OrganizationId, window: Window) -> Reconciliation:
    deployment: UsageDeployment = ctx.obj
    return ReconciliationStore(deployment.database()).newest(organization, window)


def _differences(found: Reconciliation, settings: UsageSettings) -> Iterator[str]:
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


def _gaps(found: list[GapSpan]) -> Iterator[str]:
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


def _table(usage: UsageMonth, compared: Reconciliation, filled: Filled, *, files: bool) -> Iterator[str]:
    layout = "{:<17} {:>3}  {:<40} {:>14} {:>10} {:>10} {:>10} {:>12} {:>10}"
    names = ("hour (UTC)", "rev", "component", "vCPU-hours", "peak vCPU", "observed s", "missing s", "estimated s")
    yield layout.format(*names, "reconciled")
    flags = compared.flags()
    for row, estimated_ms in zip(usage.rows, estimated_by_row(filled, usage.rows), strict=True):
        yield layout.format(
            f"{row.hour.start:%Y-%m-%d %H:%M}",
            row.revision,
            f"{row.project}/{row.cluster}/{row.component}",
            render_fraction(vcpu_hours(row.milli_vcpu_ms), 6),
            _thousandths(row.peak_milli_vcpu),
            _thousandths(row.observed_ms),
            _thousandths(row.missing_ms),
            f"{_thousandths(estimated_ms)} *" if estimated_ms else "-",
            {True: "yes", False: "no", None: "-"}[is_reconciled(row, flags)],
        )
        if files:
            yield from (
                f"    {each.source} row group {each.row_group} rows {each.first} to {each.last}"
                for each in ranges_of(row)
            )
    if filled.stretches:
        hours = render_fraction(Fraction(filled.estimated_ms, HOUR_MS), 3)
        quantity = render_fraction(vcpu_hours(filled.milli_vcpu_ms), 6)
        yield f"* {hours} component-hours are estimated by the contract's gap policy: {quantity} vCPU-hours more"
    yield f"digest {usage.revision_digest}" + ("" if usage.sealed else "  (not every hour is closed)")


def _thousandths(value: int) -> str:
    return render_fraction(Fraction(value, 1000), 3)
