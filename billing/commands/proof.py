"""`byoc invoice explain` and `bundle`, and `byoc verify-invoice`: what an invoice rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from billing.commands.context import ACTOR, Number, deployment_of, run_of, signer_of, write_file
from billing.document import utc_ms
from billing.proof.bundle import render_bundle, write_bundle
from billing.proof.checkpoint_store import CheckpointStore
from billing.proof.evidence import render_evidence
from billing.proof.explain import explain_line
from billing.proof.signatures import load_signature, sign_now
from kernel.errors import Conflict, InvalidInput
from kernel.window import Window
from kernel.window import month as month_window

if TYPE_CHECKING:
    from billing.invoices import Invoice
    from billing.proof.statement import InvoiceSigner
    from metering.usage.model import UsageMonth


def explain_invoice(
    ctx: typer.Context,
    number: Number,
    line: Annotated[int, typer.Option(help="Which line, from 1.")] = 1,
) -> None:
    """One line: its parts, rate, rounding, hours, gaps and the lake files read. Hours as they are stored now."""
    invoice = run_of(ctx).invoice(number)
    usage = _usage_of(ctx, invoice)
    if usage and usage.revision_digest != invoice.document["usage"]["revision_digest"]:
        typer.echo("usage was revised since: the hours below are not those that were billed", err=True)
    for text in explain_line(invoice.document, line, usage.rows if usage else ()):
        typer.echo(text)


def bundle_invoice(
    ctx: typer.Context,
    number: Number,
    out: Annotated[Path, typer.Option(help="A new folder.")],
) -> None:
    """Write what a customer needs to verify an invoice offline with `byoc verify-invoice`."""
    run, clock = run_of(ctx), deployment_of(ctx).clock
    invoice = run.invoice(number)
    stored = load_signature(run.database, number)
    files = render_bundle(
        invoice.json,
        _usage_of(ctx, invoice),
        lambda named: stored or sign_now(invoice, named, run.signer, clock),
        _checkpoints_of(ctx).proof(number),
    )
    files |= _evidence(ctx, invoice, run.signer)
    write_bundle(out, files)
    typer.echo(f"{out}: {', '.join(sorted(files))}")


def _evidence(ctx: typer.Context, invoice: Invoice, signer: InvoiceSigner | None) -> dict[str, bytes]:
    """Which pushes the rows were made from, where the deployment has the lake that knows it."""
    usage, load = _usage_of(ctx, invoice), getattr(deployment_of(ctx), "evidence_of", None)
    if usage is None or load is None or signer is None:
        return {}
    try:
        return render_evidence(load(invoice.organization, usage.rows), invoice.json, signer)
    except Conflict as error:
        typer.echo(f"the bundle can't be held against what collectors kept: {error}", err=True)
        return {}


def _usage_of(ctx: typer.Context, invoice: Invoice) -> UsageMonth | None:
    document = invoice.document
    if document["usage"] is None:
        return None
    period = Window(utc_ms(document["period"]["start"]), utc_ms(document["period"]["end"]))
    return run_of(ctx).usage.month(invoice.organization, period)


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
    if out is not None:
        if len({one.legal_entity for one in chain}) != 1:
            found = ", ".join(sorted({one.legal_entity for one in chain})) or "no checkpoint"
            raise InvalidInput.single("command line", "--entity", found, "a legal entity that has a checkpoint")
        write_file(out, chain[-1].signed)


def _checkpoints_of(ctx: typer.Context) -> CheckpointStore:
    deployment = deployment_of(ctx)
    return CheckpointStore(deployment.database(), deployment.clock, deployment.audit(), signer_of(ctx), ACTOR)
