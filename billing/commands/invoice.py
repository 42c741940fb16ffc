"""`byoc invoice`: drafts, final documents, and reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from billing.commands.context import (
    Month,
    Number,
    OneContract,
    OnlyOrganization,
    Organization,
    optional_organization,
    organization_of,
    pdf_of,
    receivables_of,
    run_of,
    write_file,
)
from billing.commands.proof import bundle_invoice, explain_invoice, show_checkpoints
from billing.draft import Draft
from billing.listing import list_json, render_list

invoice_app = typer.Typer(no_args_is_help=True, help="Invoices: preview, finalize, credit, void, pay, show.")
invoice_app.command("explain")(explain_invoice)
invoice_app.command("bundle")(bundle_invoice)
invoice_app.command("checkpoint")(show_checkpoints)


@invoice_app.command("preview")
def preview_invoice(
    ctx: typer.Context, organization: Organization, month: Month, contract: OneContract = None
) -> None:
    """What a month would be invoiced as now, at any time, with what stands in the way of making it final."""
    run, owner = run_of(ctx), organization_of(organization)
    draft = run.draft(owner, month, contract)
    _echo_lines(draft)
    typer.echo(f"phase {run.phase(owner, month, contract)}, usage {'sealed' if draft.sealed else 'not sealed yet'}")
    for credit in run.credits_due(draft.agreed.contract.contract):
        typer.echo(f"credit note due for {credit.reference}: {credit.gross}")
    typer.echo(f"draft {draft.sha256}")


def _echo_lines(draft: Draft) -> None:
    for line in draft.lines:
        amount = "(information)" if line.informational else str(line.amount)
        typer.echo(f"{amount:>18}  {line.kind}  {line.description}")
    typer.echo(f"{draft.net!s:>18}  net")
    typer.echo(f"{draft.tax!s:>18}  tax")
    typer.echo(f"{draft.gross!s:>18}  gross")


@invoice_app.command("draft")
def draft_invoice(
    ctx: typer.Context,
    organization: Organization,
    month: Month,
    contract: OneContract = None,
    pdf: Annotated[Path | None, typer.Option(help="Write the draft's PDF there too.")] = None,
) -> None:
    """Print the draft of a month as canonical JSON. Nothing is stored; the same input gives the same bytes."""
    draft = run_of(ctx).draft(organization_of(organization), month, contract)
    typer.echo(draft.json())
    if pdf:
        write_file(pdf, pdf_of(ctx).render(draft.json()))


@invoice_app.command("finalize")
def finalize_invoice(
    ctx: typer.Context, organization: Organization, month: Month, contract: OneContract = None
) -> None:
    """Close a month: number and store its invoice, and those of commitments that have begun. Repeatable."""
    closed = run_of(ctx).close(organization_of(organization), month, contract)
    for invoice in (*closed.commitments, closed.invoice):
        typer.echo(f"{invoice.number}  {invoice.kind} {invoice.period}  {invoice.gross} {invoice.currency}")
    for note in closed.credits:
        typer.echo(f"{note.number}  {note.kind} for {note.document['credits']}  {note.gross} {note.currency}")
    for number in closed.late:
        typer.echo(f"{number}: usage that arrived later is billed by the next invoice")


@invoice_app.command("commitments")
def finalize_commitments(
    ctx: typer.Context, contract: Annotated[str, typer.Argument(help="Id of the contract.")]
) -> None:
    """Number and store the invoices of a contract's commitments that have begun by now. Repeatable."""
    run = run_of(ctx)
    for draft in run.commitments(contract):
        invoice = run.finalize(draft)
        typer.echo(f"{invoice.number}  {invoice.kind} {invoice.period}  {invoice.gross} {invoice.currency}")


@invoice_app.command("show")
def show_invoice(ctx: typer.Context, number: Number) -> None:
    """Print a final invoice as canonical JSON."""
    typer.echo(run_of(ctx).invoice(number).json)


@invoice_app.command("list")
def list_invoices(
    ctx: typer.Context,
    organization: OnlyOrganization = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the table.")] = False,
) -> None:
    """Every document with its state, and the months without an invoice: open, in grace, or due.

    `credited` is what was settled by credit notes alone.
    """
    owner = optional_organization(organization)
    documents, months = receivables_of(ctx).statement(owner), run_of(ctx).unbilled(owner)
    for line in [list_json(documents, months)] if as_json else render_list(documents, months):
        typer.echo(line)


@invoice_app.command("pdf")
def write_pdf(
    ctx: typer.Context,
    number: Number,
    out: Annotated[Path | None, typer.Option(help="Default: NUMBER.pdf here.")] = None,
    *,
    facturx: Annotated[
        bool, typer.Option("--facturx", help="As Factur-X, also if the contract's legal entity does not say so.")
    ] = False,
) -> None:
    """Render a final invoice as PDF; the same bytes each time."""
    invoice = run_of(ctx).invoice(number)
    target = out or Path(f"{invoice.number}.pdf")
    write_file(target, pdf_of(ctx).render(invoice.json, facturx=facturx))
    typer.echo(str(target))
