"""`byoc audit`: check the audit log's chain, or take it out as JSON Lines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kernel.audit import AuditBroken, AuditHead, AuditLog
from kernel.deployment import Deployment
from kernel.errors import InvalidInput

audit_app = typer.Typer(no_args_is_help=True, help="The hash-chained audit log: verify, export.")


@audit_app.command("verify")
def verify_chain(
    ctx: typer.Context,
    head: Annotated[
        str | None, typer.Option(help="A head printed earlier (sequence:hash), which must still be in the chain.")
    ] = None,
) -> None:
    """Recompute every hash. Prints the head; exit status 1 and the first broken row if the chain is broken."""
    kept = AuditHead.parse(head) if head else None
    audit = _audit_of(ctx)
    findings = audit.verify(kept)
    if findings:
        raise AuditBroken(findings)
    last = audit.head()
    typer.echo(f"{last.sequence} rows, chain whole\nhead {last}")


@audit_app.command("export")
def export_events(
    ctx: typer.Context,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write every row as a line of JSON."""
    audit = _audit_of(ctx)
    if out is None:
        audit.export(sys.stdout)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            count = audit.export(file)
    except OSError as error:
        allowed = "a name that does not exist yet, in a folder that does"
        raise InvalidInput.single("--out", str(out), error.strerror or error, allowed) from error
    typer.echo(f"{count} rows in {out}")


def _audit_of(ctx: typer.Context) -> AuditLog:
    deployment = ctx.obj
    assert isinstance(deployment, Deployment)
    return deployment.audit()
