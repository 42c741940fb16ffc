"""`byoc price`, `byoc contract`, `byoc licence`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives import serialization

from billing.book import ContractBook
from billing.commands.context import (
    ACTOR,
    File,
    Month,
    OnlyOrganization,
    Organization,
    book_of,
    deployment_of,
    optional_organization,
    organization_of,
    run_of,
    write_file,
)
from billing.document import utc_text
from billing.licence import grace_of
from billing.licence_file import key_id, parse_public_key, read_signed_licence, sign_licence
from billing.licence_state import FORECAST_DAYS, licence_state
from billing.prices import parse_price_book
from billing.pricing import Measured, amount_of
from billing.pricing.part import shown
from billing.rating.fact import render_vcpu
from kernel.errors import ByocError, InvalidInput, NotFound, Refuse
from kernel.identity.receipt_key import open_licence_key
from kernel.settings import read_text
from kernel.window import DAY_MS, Window, hour_of

price_app = typer.Typer(no_args_is_help=True, help="Price books.")
contract_app = typer.Typer(no_args_is_help=True, help="Contracts.")
licence_app = typer.Typer(no_args_is_help=True, help="Licences: capacity and validity.")
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
    contract: Annotated[
        Path, typer.Option("--as", help="Contract file to price the month with; it is not stored.")
    ],
) -> None:
    """What a month would have cost under another contract: the same usage, both drafts side by side."""
    run, owner = run_of(ctx), organization_of(organization)
    now = run.draft(owner, month)
    simulated = run.simulate(owner, month, read_text(contract), str(contract))
    amounts: dict[str, list[str]] = {}
    for place, draft in enumerate((now, simulated)):
        for line in draft.lines:
            if not line.informational:
                amounts.setdefault(f"{line.kind} {line.group}".strip(), ["", ""])[place] = str(line.amount)
    for kind, (before, after) in amounts.items():
        typer.echo(f"{kind:<40}  {before or '-':>16}  {after or '-':>16}")
    typer.echo(f"{'net':<40}  {now.net!s:>16}  {simulated.net!s:>16}")


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


@contract_app.command("add")
def add_contract(ctx: typer.Context, file: File) -> None:
    """Store a contract, or an amendment as its next version."""
    contract = book_of(ctx).add_contract(read_text(file), str(file), ACTOR)
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
    book = book_of(ctx)
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


@licence_app.command("add")
def add_licence(ctx: typer.Context, file: File) -> None:
    """Store a licence, or an amendment as its next version."""
    licence = book_of(ctx).add_licence(read_text(file), str(file), ACTOR)
    typer.echo(f"licence {licence.licence} version {licence.version} of {licence.organization}")


@licence_app.command("sign")
def sign_licence_file(
    ctx: typer.Context,
    file: File,
    out: Annotated[Path, typer.Option(help="Where to write the signed file.")],
    public_key: Annotated[Path | None, typer.Option(help="Write the key that checks it there too.")] = None,
) -> None:
    """Sign a licence, so that the customer's side can check it without asking anybody."""
    key = open_licence_key(deployment_of(ctx).authority_folder)
    write_file(out, sign_licence(read_text(file), key, str(file)).encode())
    if public_key:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        write_file(public_key, key.public_key().public_bytes(serialization.Encoding.PEM, form))
    typer.echo(f"{out}  signed by key {key_id(key.public_key())}")


@licence_app.command("check")
def check_licence_file(
    ctx: typer.Context,
    file: File,
    public_key: Annotated[Path, typer.Option(help="The vendor's key, PEM.")],
) -> None:
    """Check a signed licence file offline: signature, validity, capacity. Exits with 1 when it is not valid now."""
    key = parse_public_key(read_text(public_key).encode(), str(public_key))
    licence = read_signed_licence(read_text(file), key, str(file))
    now_ms = deployment_of(ctx).clock.now_ms()
    typer.echo(f"licence {licence.licence} version {licence.version} of {licence.organization}: signature fits")
    typer.echo(
        f"valid {licence.valid.start} to {licence.valid.end}, now {render_vcpu(licence.timeline.at(now_ms))} vCPU"
    )
    if grace := next((each for each in [grace_of(licence, [licence])] if each and now_ms in each), None):
        typer.echo(f"expired, and in grace until {utc_text(grace.end_ms)}: renew it")
    elif now_ms not in licence.window:
        raise Refuse(f"{file}: not valid now: {'expired' if now_ms >= licence.window.end_ms else 'not begun'}")


@licence_app.command("status")
def show_licence_status(ctx: typer.Context, organization: Organization) -> None:
    """What is licensed and used now, which thresholds are crossed, and when the capacity runs out on the trend."""
    deployment, owner = deployment_of(ctx), organization_of(organization)
    licences, now_ms = book_of(ctx).licences(owner), deployment.clock.now_ms()
    if not licences:
        raise NotFound(f"{owner} has no licence; `byoc licence add FILE` stores one")
    start_ms = hour_of(now_ms - (FORECAST_DAYS + 1) * DAY_MS).start_ms
    usage = run_of(ctx).usage.month(owner, Window(start_ms, hour_of(now_ms).start_ms)).step
    last_ms = hour_of(now_ms).start_ms - 1  # of the last hour that can be closed
    state = licence_state(licences, usage, last_ms)
    typer.echo(
        f"{render_vcpu(state.used)} of {render_vcpu(state.capacity)} vCPU, {render_vcpu(state.remaining)} left"
    )
    typer.echo(f"valid until {utc_text(state.until_ms)}")
    if state.grace_until_ms is not None:
        typer.echo(f"expired, and in grace until {utc_text(state.grace_until_ms)}: renew it")
    if state.crossed:
        typer.echo(f"crossed: {', '.join(state.crossed)}")
    if state.exhausted_ms is not None:
        typer.echo(f"exhausted {utc_text(state.exhausted_ms)} on the trend of {FORECAST_DAYS} days")


@licence_app.command("show")
def show_licences(ctx: typer.Context, organization: Organization) -> None:
    """Print an organization's licences and what they give now."""
    deployment, book = deployment_of(ctx), book_of(ctx)
    licences = book.licences(organization_of(organization))
    for licence in licences:
        typer.echo(f"{licence.licence} version {licence.version}: {licence.valid.start} to {licence.valid.end}")
        for step in licence.capacity:
            typer.echo(f"  {render_vcpu(step.milli_vcpu)} vCPU from {step.start}")
    now = book.capacity(organization_of(organization)).at(deployment.clock.now_ms())
    typer.echo(f"capacity now: {render_vcpu(now)} vCPU")
