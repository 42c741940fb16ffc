"""`byoc contract`: contracts, their amendments and renewals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from billing.commands.context import ACTOR, File, OnlyOrganization, book_of, meters_of, optional_organization
from billing.rating.fact import render_vcpu
from kernel.errors import ByocError, InvalidInput, Refuse
from kernel.settings import read_text

if TYPE_CHECKING:
    from billing.book import ContractBook

contract_app = typer.Typer(no_args_is_help=True, help="Contracts.")


@contract_app.command("add")
def add_contract(ctx: typer.Context, file: File) -> None:
    """Store a contract, or an amendment as its next version."""
    contract = book_of(ctx, meters_of(ctx)).add_contract(read_text(file), str(file), ACTOR)
    typer.echo(f"contract {contract.contract} version {contract.version} of {contract.organization}")


@contract_app.command("show")
def show_contract(ctx: typer.Context, contract: Annotated[str, typer.Argument(help="Id of the contract.")]) -> None:
    """Print the newest version of a contract, as it was handed in."""
    agreed = book_of(ctx).contract(contract)
    typer.echo(f"# sha256 {agreed.snapshot.sha256}\n{agreed.snapshot.text.rstrip()}")


@contract_app.command("list")
def list_contracts(ctx: typer.Context, organization: OnlyOrganization = None) -> None:
    """One line for each contract."""
    for agreed in book_of(ctx).contracts(optional_organization(organization)):
        contract = agreed.contract
        committed = render_vcpu(contract.commitment[-1].milli_vcpu)
        kind = "on-demand above it" if contract.on_demand else "nothing above it"
        typer.echo(
            f"{contract.contract}  {contract.organization}  {contract.term.start} to {contract.term.end}  "
            f"{committed} vCPU, {kind}  {agreed.price_per_vcpu_year:f} {contract.currency} per vCPU-year"
        )


@contract_app.command("renew")
def renew_contract(
    ctx: typer.Context,
    contract: Annotated[str | None, typer.Argument(help="Id of the contract.")] = None,
    *,
    due: Annotated[bool, typer.Option("--due", help="Every contract whose last day of notice is over.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Print what would be stored; store nothing.")] = False,
) -> None:
    """Store the contract and licences of the next term, once notice can't be given any more. Repeatable."""
    if (contract is None) != due:
        found = "both" if due else "neither"
        raise InvalidInput.single("command line", "CONTRACT", found, "the id of a contract, or --due")
    book = book_of(ctx, meters_of(ctx))
    names = book.renewals_due() if contract is None else [contract]
    refused: list[str] = []
    for name in names:
        try:
            _renew(book, name, preview=preview)
        except ByocError as error:  # of many, one holds up no other
            if contract is not None:
                raise
            refused.append(f"{name}: {error}")
    if due:
        typer.echo(f"{len(names)} contracts were due, {len(refused)} refused")
    if refused:
        raise Refuse("\n".join(refused))


def _renew(book: ContractBook, name: str, *, preview: bool) -> None:
    if preview:
        for identifier, text in book.renewal(name):
            typer.echo(f"# {identifier}\n---\n{text.rstrip()}")
        return
    renewed = book.renew(name, ACTOR)
    typer.echo(f"{renewed.contract}  {renewed.term.start} to {renewed.term.end}, renews {renewed.renews}")
