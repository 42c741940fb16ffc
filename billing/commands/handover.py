"""`byoc invoice deliver|lines`, `byoc receivables statement`: documents that leave the house."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from billing.commands.context import (
    Number,
    Organization,
    deployment_of,
    organization_of,
    pdf_of,
    receivables_of,
    run_of,
    write_file,
)
from billing.commands.invoice import invoice_app
from billing.commands.life import parse_day, receivables_app
from billing.delivery import Delivery, FolderTransport, SmtpTransport, contract_address
from billing.fields import parse_email
from billing.settings import DeliverySettings
from billing.statement import statement, statement_csv, statement_parquet, statement_pdf
from billing.tables import lines_csv, lines_parquet
from kernel.errors import InvalidInput

__all__ = ["invoice_app", "receivables_app"]  # with the commands of this file
Out = Annotated[Path, typer.Option(help="File; its ending says the format.")]


@invoice_app.command("deliver")
def deliver_documents(
    ctx: typer.Context,
    to_folder: Annotated[
        Path | None, typer.Option(help="Write a .eml file for each there; without: by SMTP, section `delivery`.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Address for contracts without `send_to`.")] = None,
) -> None:
    """Hand over every issued document that waits, with PDF and JSON. What is refused waits for the next time."""
    settings = deployment_of(ctx).section("delivery", DeliverySettings)
    if to is not None:
        to = parse_email(to)
    delivery = Delivery(receivables_of(ctx), pdf_of(ctx), settings.sender)
    failed = False
    with nullcontext(FolderTransport(to_folder)) if to_folder else SmtpTransport(settings) as transport:
        for one in delivery.deliver(transport, lambda invoice: contract_address(invoice) or to):
            typer.echo(f"{one.number}  {one.to or one.reason}")
            failed = failed or (one.to is None and not one.reason.startswith("void"))
    if failed:
        raise typer.Exit(1)


@invoice_app.command("lines")
def write_lines(ctx: typer.Context, number: Number, out: Out) -> None:
    """Write the lines of a final document as .csv or .parquet."""
    renderers = {".csv": lines_csv, ".parquet": lines_parquet}
    if out.suffix not in renderers:
        raise InvalidInput.single("command line", "--out", str(out), "a name that ends in .csv or .parquet")
    write_file(out, renderers[out.suffix](run_of(ctx).invoice(number).json))
    typer.echo(str(out))


@receivables_app.command("statement")
def write_statement(
    ctx: typer.Context,
    organization: Organization,
    out: Out,
    on: Annotated[str | None, typer.Option(help="YYYY-MM-DD to count overdue days on; default: today.")] = None,
) -> None:
    """Write an organization's statement of account as .json, .csv, .parquet or .pdf."""
    tables: dict[str, Callable[[bytes], bytes]] = {
        ".json": bytes,
        ".csv": statement_csv,
        ".parquet": statement_parquet,
    }
    if out.suffix not in {*tables, ".pdf"}:
        allowed = "a name that ends in .json, .csv, .parquet or .pdf"
        raise InvalidInput.single("command line", "--out", str(out), allowed)
    owner = organization_of(organization)
    day = parse_day(on) if on else deployment_of(ctx).clock.now().date()
    encoded = statement(owner, receivables_of(ctx).statement(owner), day)
    written = statement_pdf(encoded, pdf_of(ctx)) if out.suffix == ".pdf" else tables[out.suffix](encoded)
    write_file(out, written)
    typer.echo(str(out))
