"""`byoc export focus`: what was issued, in the shapes of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from billing.commands.context import Organization, deployment_of, organization_of
from billing.exports.focus import FocusRequest, Issue, build_bundle, write_bundle
from billing.exports.focus.charges import Service
from billing.exports.focus.check import check_files
from billing.invoices import load_invoices, standing
from kernel.errors import Conflict

export_app = typer.Typer(no_args_is_help=True, help="Issued documents in the shapes of others.")


@export_app.callback()
def _group() -> None:
    """Issued documents in the shapes of others."""


@export_app.command("focus")
def export_focus(
    ctx: typer.Context,
    organization: Organization,
    first: Annotated[str, typer.Option("--from", help="First billing month, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last billing month, YYYY-MM, included.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    service: Annotated[str, typer.Option(help="Name of the service in every row.")] = "BYOC database",
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Have focus-data-toolkit judge the files (extra `focus`).")
    ] = False,
) -> None:
    """FOCUS 1.4 as CSV: Cost and Usage (also as 1.2), Invoice Detail, Billing Period, Contract Commitment.

    With --check, ends with 1 when the toolkit finds anything; the files stay to be looked at.
    """
    deployment = deployment_of(ctx)
    owner = organization_of(organization)

    def read(connection: sa.Connection) -> list[Issue]:
        found = load_invoices(connection, owner)
        stand = {one.number for one in standing(connection, found)}
        return [Issue(one.document, one.number not in stand) for one in found]

    request = FocusRequest(first, last, Service(service), deployment.clock.now_ms())
    bundle = build_bundle(deployment.database().read(read), request)
    for path, (_, rows) in zip(write_bundle(bundle, out), bundle.values(), strict=True):
        typer.echo(f"{path}  {len(rows)} rows")
    if check:
        found = check_files(out)
        for finding in found:
            typer.echo(finding, err=True)
        if found:
            raise Conflict(f"{out}: {len(found)} findings of focus-data-toolkit")
        typer.echo("focus-data-toolkit finds nothing; all amounts agree to 0.00")
