"""`byoc invoice explain` and `bundle`, and `byoc verify-invoice`: what an invoice rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from billing.commands.context import Number, deployment_of, run_of
from billing.document import utc_ms
from billing.proof.bundle import render_bundle, write_bundle
from billing.proof.evidence import render_evidence
from billing.proof.explain import explain_line
from billing.proof.signatures import load_signature, sign_now
from kernel.errors import Conflict
from kernel.window import Window

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
        invoice.json, _usage_of(ctx, invoice), lambda named: stored or sign_now(invoice, named, run.signer, clock)
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
