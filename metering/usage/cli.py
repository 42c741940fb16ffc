"""`byoc usage`: the monthly report as files, and the hours behind it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer

from kernel.clock import Clock, to_ms
from kernel.database import Database
from kernel.errors import ByocError, InvalidInput, NotFound
from kernel.ids import OrganizationId, parse_id
from kernel.steps import StepFunction
from kernel.window import HOUR_MS, Window, month
from metering.usage.filling import fill
from metering.usage.gap_spans import gap_spans
from metering.usage.lines import difference_lines, gap_lines, hour_lines, meter_lines
from metering.usage.model import NOT_BILLED, GapRule, UsageMonth
from metering.usage.reconciler import Reconciler
from metering.usage.reconciliation import Reconciliation
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
    meter: Annotated[
        str | None,
        typer.Option(help="Of this meter of the catalogue (`byoc meters list`), not of the licence's vCPU."),
    ] = None,
) -> None:
    """List the newest revision of each hour, component by component, and what of it is estimated (`*`)."""
    owner = OrganizationId(parse_id(organization, "organization"))
    if meter is not None:
        for line in _of_meter(ctx, owner, meter, parse_hours(start, end), as_csv=as_csv, files=files):
            typer.echo(line)
        return
    usage = _usage(ctx, owner, parse_hours(start, end))
    compared = _compared(ctx, owner, usage.window)
    filled = fill(usage, _gap_rule(ctx, owner, usage.window))
    if as_csv:
        typer.echo(render_csv(usage, compared, filled).decode(), nl=False)
        return
    for line in hour_lines(usage, compared, filled, files=files):
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
    for line in gap_lines(gap_spans(_usage(ctx, owner, parse_hours(start, end)).rows)):
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
    for line in difference_lines(found, settings):
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


def _of_meter(
    ctx: typer.Context, organization: OrganizationId, meter: str, window: Window, *, as_csv: bool, files: bool
) -> Iterator[str]:
    if as_csv:
        raise InvalidInput.single("usage hours", "--csv", f"with --meter {meter}", "a table, of a meter")
    deployment: UsageDeployment = ctx.obj
    rule = _gap_rule(ctx, organization, window)
    usage = UsageStore(deployment.database()).meter(organization, meter, window, None, rule)
    return meter_lines(usage, files=files)


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
