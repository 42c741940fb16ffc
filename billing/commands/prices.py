"""`byoc price`: price books, and what a month would have cost under another contract."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from billing.commands.context import (
    ACTOR,
    File,
    Month,
    OneContract,
    Organization,
    book_of,
    meters_of,
    organization_of,
    run_of,
)
from billing.prices import parse_price_book
from billing.pricing import Measured, amount_of
from billing.pricing.part import shown
from billing.simulation import render_simulation, simulation_json
from kernel.settings import read_text

price_app = typer.Typer(no_args_is_help=True, help="Price books.")
SAMPLES = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@price_app.command("check")
def check_prices(file: File) -> None:
    """Check a price book without storing it, and print what each model makes of some quantities."""
    book = parse_price_book(read_text(file), str(file))
    typer.echo(f"price book {book.price_book} version {book.version}: valid")
    for booked in book.models:
        typer.echo(f"  {booked.item}  {booked.model.kind}  {booked.currency} from {booked.start}")
        for quantity in SAMPLES:
            hours = (Fraction(quantity),)
            measured = Measured(Fraction(quantity), windows=hours, events=hours)
            typer.echo(f"    {quantity:>9}  {shown(amount_of(booked.model.price(measured)))}")


@price_app.command("simulate")
def simulate_prices(
    ctx: typer.Context,
    organization: Organization,
    month: Month,
    file: Annotated[Path, typer.Option("--as", help="Contract file to price the month with; it is not stored.")],
    contract: OneContract = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list instead of the table.")] = False,
) -> None:
    """What a month would have cost under another contract: the same usage, beside what was billed.

    `now` is what its own contract makes of the usage as it is known now. The difference is to what was billed, or
    to `now` where nothing was yet. Corrections of other months and what a person credited are left out.
    """
    run, owner = run_of(ctx), organization_of(organization)
    document = read_text(file), str(file)
    found = run.simulate(owner, month, document, contract, meters_of(ctx))
    for line in [simulation_json(found)] if as_json else render_simulation(found):
        typer.echo(line)


@price_app.command("add")
def add_price_book(ctx: typer.Context, file: File) -> None:
    """Store a version of a price book. A stored version never changes."""
    book = book_of(ctx).add_price_book(read_text(file), str(file), ACTOR)
    typer.echo(f"price book {book.price_book} version {book.version}: {len(book.prices)} prices")


@price_app.command("show")
def show_pricebook_of(
    ctx: typer.Context,
    book: Annotated[str, typer.Argument(help="Id of the price book.")],
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
) -> None:
    """Print the prices of a book."""
    found = book_of(ctx).price_book(book, version)
    typer.echo(f"price book {found.price_book} version {found.version}")
    for price in found.prices:
        typer.echo(f"  {price.item}  {price.amount:f} {price.currency}  from {price.start}")
