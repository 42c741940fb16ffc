"""`byoc price`, `byoc contract`, `byoc licence`, `byoc invoice`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from billing.book import ContractBook
from billing.pdf import invoice_pdf
from billing.rating.fact import render_vcpu
from billing.run import InvoiceRun
from kernel.deployment import Deployment
from kernel.errors import ByocError, Conflict, truncate
from kernel.ids import OrganizationId, parse_id
from kernel.settings import read_text

price_app = typer.Typer(no_args_is_help=True, help="Price books.")
contract_app = typer.Typer(no_args_is_help=True, help="Contracts.")
licence_app = typer.Typer(no_args_is_help=True, help="Licences: capacity and validity.")
invoice_app = typer.Typer(no_args_is_help=True, help="Invoices: draft, finalize, show.")
app = typer.Typer(no_args_is_help=True, help="Price books, contracts, licences, invoices.")
for _name, _group in (
    ("price", price_app),
    ("contract", contract_app),
    ("licence", licence_app),
    ("invoice", invoice_app),
):
    app.add_typer(_group, name=_name)

ACTOR = "cli"
File = Annotated[Path, typer.Argument(help="YAML file.")]
Organization = Annotated[str, typer.Argument(help="Id of the organization.")]
Month = Annotated[str, typer.Argument(help="YYYY-MM, in the contract's time zone.")]
OneContract = Annotated[str | None, typer.Option("--contract", help="Which, when two cover parts of the month.")]
OnlyOrganization = Annotated[str | None, typer.Option("--organization", help="Only this organization's.")]


@price_app.command("add")
def add_price_book(ctx: typer.Context, file: File) -> None:
    """Store a version of a price book. A stored version never changes."""
    book = _book(ctx).add_price_book(read_text(file), str(file), ACTOR)
    typer.echo(f"price book {book.price_book} version {book.version}: {len(book.prices)} prices")


@price_app.command("show")
def show_price_book(
    ctx: typer.Context,
    book: Annotated[str, typer.Argument(help="Id of the price book.")],
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
) -> None:
    """Print the prices of a book."""
    found = _book(ctx).price_book(book, version)
    typer.echo(f"price book {found.price_book} version {found.version}")
    for price in found.prices:
        typer.echo(f"  {price.item}  {price.amount:f} {price.currency}  from {price.start}")


@contract_app.command("add")
def add_contract(ctx: typer.Context, file: File) -> None:
    """Store a contract, or an amendment as its next version."""
    contract = _book(ctx).add_contract(read_text(file), str(file), ACTOR)
    typer.echo(f"contract {contract.contract} version {contract.version} of {contract.organization}")


@contract_app.command("show")
def show_contract(ctx: typer.Context, contract: Annotated[str, typer.Argument(help="Id of the contract.")]) -> None:
    """Print the newest version of a contract, as it was handed in."""
    agreed = _book(ctx).contract(contract)
    typer.echo(f"# sha256 {agreed.snapshot.sha256}\n{agreed.snapshot.text.rstrip()}")


@contract_app.command("list")
def list_contracts(ctx: typer.Context, organization: OnlyOrganization = None) -> None:
    """One line for each contract."""
    for agreed in _book(ctx).contracts(_optional(organization)):
        contract = agreed.contract
        committed = render_vcpu(contract.commitment[-1].milli_vcpu)
        kind = "on-demand above it" if contract.on_demand else "nothing above it"
        typer.echo(
            f"{contract.contract}  {contract.organization}  {contract.term.start} to {contract.term.end}  "
            f"{committed} vCPU, {kind}  {agreed.price_per_vcpu_year:f} {contract.currency} per vCPU-year"
        )


@licence_app.command("add")
def add_licence(ctx: typer.Context, file: File) -> None:
    """Store a licence, or an amendment as its next version."""
    licence = _book(ctx).add_licence(read_text(file), str(file), ACTOR)
    typer.echo(f"licence {licence.licence} version {licence.version} of {licence.organization}")


@licence_app.command("show")
def show_licences(ctx: typer.Context, organization: Organization) -> None:
    """Print an organization's licences and what they give now."""
    deployment, book = _deployment(ctx), _book(ctx)
    licences = book.licences(_organization(organization))
    for licence in licences:
        typer.echo(f"{licence.licence} version {licence.version}: {licence.valid.start} to {licence.valid.end}")
        for step in licence.capacity:
            typer.echo(f"  {render_vcpu(step.milli_vcpu)} vCPU from {step.start}")
    now = book.capacity(_organization(organization)).at(deployment.clock.now_ms())
    typer.echo(f"capacity now: {render_vcpu(now)} vCPU")


@invoice_app.command("draft")
def draft_invoice(
    ctx: typer.Context,
    organization: Organization,
    month: Month,
    contract: OneContract = None,
    pdf: Annotated[Path | None, typer.Option(help="Write the draft's PDF there too.")] = None,
) -> None:
    """Print the draft of a month as canonical JSON. Nothing is stored; the same input gives the same bytes."""
    draft = _run(ctx).draft(_organization(organization), month, contract)
    typer.echo(draft.json())
    if pdf:
        _write(pdf, invoice_pdf().render(draft.json()))


@invoice_app.command("finalize")
def finalize_invoice(
    ctx: typer.Context, organization: Organization, month: Month, contract: OneContract = None
) -> None:
    """Close a month: number and store its invoice, and those of commitments that have begun. Repeatable."""
    closed = _run(ctx).close(_organization(organization), month, contract)
    for invoice in (*closed.commitments, closed.invoice):
        typer.echo(f"{invoice.number}  {invoice.kind} {invoice.period}  {invoice.gross} {invoice.currency}")
    if closed.late_usage:
        raise Conflict(
            f"usage of {month} has changed since {closed.invoice.number} became final; it needs an adjustment"
        )


@invoice_app.command("commitments")
def finalize_commitments(
    ctx: typer.Context, contract: Annotated[str, typer.Argument(help="Id of the contract.")]
) -> None:
    """Number and store the invoices of a contract's commitments that have begun by now. Repeatable."""
    run = _run(ctx)
    for draft in run.commitments(contract):
        invoice = run.finalize(draft)
        typer.echo(f"{invoice.number}  {invoice.kind} {invoice.period}  {invoice.gross} {invoice.currency}")


@invoice_app.command("show")
def show_invoice(ctx: typer.Context, number: Annotated[str, typer.Argument(help="Number of the invoice.")]) -> None:
    """Print a final invoice as canonical JSON."""
    typer.echo(_run(ctx).invoice(number).json)


@invoice_app.command("list")
def list_invoices(ctx: typer.Context, organization: OnlyOrganization = None) -> None:
    """One line for each final invoice."""
    for invoice in _run(ctx).invoices(_optional(organization)):
        typer.echo(
            f"{invoice.number}  {invoice.organization}  {invoice.kind} {invoice.period}  "
            f"{invoice.gross} {invoice.currency}  sha256 {invoice.sha256}"
        )


@invoice_app.command("pdf")
def write_pdf(
    ctx: typer.Context,
    number: Annotated[str, typer.Argument(help="Number of the invoice.")],
    out: Annotated[Path | None, typer.Option(help="Default: NUMBER.pdf here.")] = None,
) -> None:
    """Render a final invoice as PDF; the same bytes each time."""
    invoice = _run(ctx).invoice(number)
    target = out or Path(f"{invoice.number}.pdf")
    _write(target, invoice_pdf().render(invoice.json))
    typer.echo(str(target))


def _deployment(ctx: typer.Context) -> Deployment:
    deployment = ctx.obj
    assert isinstance(deployment, Deployment)
    return deployment


def _book(ctx: typer.Context) -> ContractBook:
    deployment = _deployment(ctx)
    return ContractBook(deployment.database(), deployment.clock, deployment.audit())


def _run(ctx: typer.Context) -> InvoiceRun:
    from metering.usage.api import UsageStore  # its lake libraries take two seconds to load

    deployment = _deployment(ctx)
    database = deployment.database()
    return InvoiceRun(database, UsageStore(database), deployment.clock, deployment.audit(), ACTOR)


def _organization(text: str) -> OrganizationId:
    return OrganizationId(parse_id(text, "organization"))


def _optional(text: str | None) -> OrganizationId | None:
    return _organization(text) if text else None


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ByocError(f"{truncate(str(path))} can't be written: {error.strerror}") from error
