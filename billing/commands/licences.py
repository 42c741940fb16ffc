"""`byoc licence`. `licence check` runs in the customer's VPC too, where the vendor's libraries are not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives import serialization

from billing.commands.context import (
    ACTOR,
    File,
    Organization,
    book_of,
    clock_of,
    deployment_of,
    organization_of,
    run_of,
    write_file,
)
from billing.document import utc_text
from billing.licence import grace_of
from billing.licence_file import key_id, parse_public_key, read_signed_licence, sign_licence
from billing.licence_state import FORECAST_DAYS, licence_state
from billing.rating.fact import render_vcpu
from kernel.errors import NotFound, Refuse
from kernel.identity.receipt_key import open_licence_key
from kernel.ids import OrganizationId
from kernel.settings import read_text
from kernel.window import DAY_MS, Window, hour_of, uncovered

licence_app = typer.Typer(no_args_is_help=True, help="Licences: capacity and validity.")


@licence_app.command("add")
def add_licence(ctx: typer.Context, file: File) -> None:
    """Store a licence, or an amendment as its next version. Says so when it is valid while no contract is."""
    book = book_of(ctx)
    licence = book.add_licence(read_text(file), str(file), ACTOR)
    typer.echo(f"licence {licence.licence} version {licence.version} of {licence.organization}")
    contracts = [agreed.contract for agreed in book.contracts(OrganizationId(licence.organization))]
    for part in uncovered(licence.window, [contract.window for contract in contracts]) if contracts else ():
        times = f"{utc_text(part.start_ms)} to {utc_text(part.end_ms)}"
        typer.echo(f"no contract of {licence.organization} covers {times}, when it is valid", err=True)


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
    now_ms = clock_of(ctx).now_ms()
    typer.echo(f"licence {licence.licence} version {licence.version} of {licence.organization}: signature fits")
    typer.echo(
        f"valid {licence.valid.start} to {licence.valid.end}, now {render_vcpu(licence.timeline.at(now_ms))} vCPU"
    )
    if grace := next((each for each in [grace_of(licence, [licence])] if each and now_ms in each), None):
        typer.echo(f"expired, and in grace until {utc_text(grace.end_ms)}: renew it")
    elif now_ms not in licence.window:
        edge = f"expired on {licence.valid.end}"
        if now_ms < licence.window.start_ms:
            edge = f"begins on {licence.valid.start}"
        raise Refuse(f"{file}: not valid now, {utc_text(now_ms)}: it {edge} ({licence.time_zone})")


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
