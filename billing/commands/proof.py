"""`byoc invoice explain` and `bundle`, and `byoc verify-invoice`: what an invoice rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from billing.commands.context import ACTOR, Number, deployment_of, run_of, signer_of, write_file
from billing.proof.assemble import Assembly
from billing.proof.behind import behind
from billing.proof.bundle import write_bundle
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.evidence import Evidence, Sourced, render_evidence
from billing.proof.explain import explain_line, line_of
from kernel.errors import InvalidInput
from kernel.window import month as month_window

if TYPE_CHECKING:
    from billing.invoices import Invoice


def explain_invoice(
    ctx: typer.Context,
    number: Number,
    line: Annotated[int, typer.Option(help="Which line, from 1.")] = 1,
) -> None:
    """One line: its parts, rate, rounding, hours, gaps, files of the lake and pushes, as they were billed."""
    invoice = run_of(ctx).invoice(number)
    document = invoice.document
    chosen = line_of(document, line)
    found = behind(chosen, _assembly_of(ctx).parts(invoice))
    known, unknown = _evidence_of(ctx, invoice, {"": found.rows} if found.rows else {})
    for text in explain_line(document["currency"]["code"], chosen, found, known.get("")):
        typer.echo(text)
    for why in unknown.values():
        typer.echo(f"pushes are not told: {why}", err=True)


def bundle_invoice(
    ctx: typer.Context,
    number: Number,
    out: Annotated[Path, typer.Option(help="A new folder.")],
) -> None:
    """Write what a customer needs to verify an invoice offline with `byoc verify-invoice`."""
    invoice, assembly = run_of(ctx).invoice(number), _assembly_of(ctx)
    files = assembly.bundle(invoice) | _evidence(ctx, invoice, assembly)
    write_bundle(out, files)
    typer.echo(f"{out}: {', '.join(sorted(files))}")


def _evidence(ctx: typer.Context, invoice: Invoice, assembly: Assembly) -> dict[str, bytes]:
    """Which pushes the rows were made from, where the deployment has the lake that knows it."""
    signer = assembly.checkpoints.signer
    if signer is None:
        return {}
    files: dict[str, bytes] = {}
    parts = {folder: (rows, definitions) for folder, rows, definitions in assembly.sourced(invoice)}
    found, unknown = _evidence_of(ctx, invoice, {folder: rows for folder, (rows, _) in parts.items()})
    for folder, evidence in found.items():
        told = replace(evidence, definitions=parts[folder][1])
        files |= render_evidence(told, invoice.json, signer, folder)
    for folder, why in unknown.items():
        place = f" (rows of {folder})" if folder else ""
        typer.echo(f"the bundle can't be held against what collectors kept{place}: {why}", err=True)
    return files


def _evidence_of(
    ctx: typer.Context, invoice: Invoice, parts: Mapping[str, Sequence[Sourced]]
) -> tuple[Mapping[str, Evidence], Mapping[str, str]]:
    """By part, what its rows were made from, and why the lake does not know it; nothing where there is no lake."""
    load = getattr(deployment_of(ctx), "evidence_of", None)
    found: tuple[Mapping[str, Evidence], Mapping[str, str]] = (
        load(invoice.organization, parts) if load else ({}, {})
    )
    return found


def _assembly_of(ctx: typer.Context) -> Assembly:
    from metering.usage.api import UsageStore  # its lake libraries take two seconds to load

    database = deployment_of(ctx).database()
    return Assembly(database, UsageStore(database), _checkpoints_of(ctx))


def show_checkpoints(
    ctx: typer.Context,
    entity: Annotated[str | None, typer.Option(help="Only this legal entity's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the last one there, for customers to keep.")] = None,
    month: Annotated[
        str | None, typer.Option(help="YYYY-MM: make one first, as `byoc close` does, of what was issued since.")
    ] = None,
) -> None:
    """The checkpoints: signed roots over every document issued, each naming the one before."""
    store = _checkpoints_of(ctx)
    if month is not None:
        month_window(month)
        store.make(month)
    chain = store.chain(entity)
    for one in chain:
        typer.echo(f"{one.legal_entity}  {one.position}  {one.month}  {one.size} documents  root {one.root}")
    if not chain:
        typer.echo("there is no checkpoint yet; `byoc close` makes them", err=True)
    if out is not None:
        if len({one.legal_entity for one in chain}) != 1:
            found = ", ".join(sorted({one.legal_entity for one in chain})) or "no checkpoint"
            raise InvalidInput.single("command line", "--entity", found, "a legal entity that has a checkpoint")
        write_file(out, chain[-1].signed)


def _checkpoints_of(ctx: typer.Context) -> CheckpointStore:
    deployment = deployment_of(ctx)
    return CheckpointStore(deployment.database(), deployment.clock, deployment.audit(), signer_of(ctx), ACTOR)
