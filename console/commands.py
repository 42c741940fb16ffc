"""Single commands of the composition root: `byoc up`, `byoc close`, `byoc demo`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.parts import Part
from console.verifying import verify_invoice

if TYPE_CHECKING:
    from console.wiring import Vendor


def register(app: typer.Typer) -> None:
    """Add the commands; what they need is imported when they run."""
    app.command("up")(up)
    app.command("close")(close)
    app.command("demo")(demo)
    app.command("verify-invoice")(verify_invoice)
    app.command("gateway-worker", hidden=True)(gateway_worker)


def up(
    ctx: typer.Context,
    *,
    check_config: Annotated[
        bool,
        typer.Option(
            help="Check the settings and the files that they name, then end; asks no server, makes nothing."
        ),
    ] = False,
    gateway_port: Annotated[int | None, typer.Option(help="Listen there instead; 0 takes a free port.")] = None,
    health_port: Annotated[int | None, typer.Option(help="Likewise for /healthz, /readyz, /metrics.")] = None,
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Run this part alone, on the storage of the settings; give it again for more."),
    ] = None,
) -> None:
    """Run the vendor side in this process: gateway, lake, usage, licences, alerts, provisioner."""
    from console.checking import check_start
    from console.sections import read_sections

    vendor: Vendor = ctx.obj
    sections = read_sections(vendor)
    check_start(vendor, sections)
    if check_config:
        typer.echo("settings are valid")
        return
    import uvloop

    from console.up import run_vendor
    from kernel.logs import configure_logs

    if health_port is not None:
        sections = replace(sections, up=sections.up.model_copy(update={"health_port": health_port}))
    if gateway_port is not None:
        sections = replace(sections, gateway=sections.gateway.model_copy(update={"port": gateway_port}))
    configure_logs()
    vendor.folder.mkdir(parents=True, exist_ok=True)
    uvloop.run(run_vendor(vendor, sections, only or tuple(Part)))


def gateway_worker(
    ctx: typer.Context,
    number: Annotated[int, typer.Option()],
    port: Annotated[int, typer.Option()],
    shares: Annotated[Path, typer.Option()],
    report: Annotated[int, typer.Option()],
) -> None:
    """One of the processes that `byoc up` starts for `gateway.workers`."""
    import uvloop

    from console.sections import read_sections
    from console.workers import Seat, run_worker
    from kernel.logs import configure_logs

    configure_logs()
    uvloop.run(run_worker(ctx.obj, read_sections(ctx.obj), Seat(number, port, shares, report)))


def close(
    ctx: typer.Context,
    month: Annotated[str, typer.Argument(help="YYYY-MM.")],
    out: Annotated[Path, typer.Option(help="Folder for report and invoices.")],
    organization: Annotated[str | None, typer.Option(help="Only this one's, with its monthly report.")] = None,
    zone: Annotated[
        str | None,
        typer.Option(help="Of one organization: time zone of its report. Default: its contract's."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Of everybody: how many close hours and make drafts.")] = 2,
    *,
    pdf: Annotated[bool, typer.Option(help="Of everybody: render PDFs too.")] = True,
) -> None:
    """Close a month, of one organization or of everybody: hours, invoices, documents. Repeatable after any death.

    Exits with 1 if anybody was refused; `summary.json` says who and why.
    """
    from kernel.folders import check_writable

    check_writable(out, "--out")
    if organization is None:
        _close_everyone(ctx.obj, month, out, processes, pdf=pdf)
        return
    from console.month import close_month
    from kernel.ids import OrganizationId, parse_id

    owner = OrganizationId(parse_id(organization, "organization", "option --organization"))
    closed = asyncio.run(close_month(ctx.obj, owner, month, out, zone))
    for one in closed.closed:
        for invoice in (*one.commitments, *one.credits, one.invoice):
            typer.echo(f"{invoice.number}\t{invoice.kind}\t{invoice.period}\t{invoice.gross} {invoice.currency}")
    for path in closed.files:
        typer.echo(str(path))


def _close_everyone(vendor: Vendor, month: str, out: Path, processes: int, *, pdf: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from console.months import Choice, close_everyone

    with Progress(console=Console(stderr=True)) as bars:
        stages: dict[str, TaskID] = {}

        def advance(stage: str, done: int, whole: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=whole)
            bars.update(stages[stage], completed=done)

        summary = asyncio.run(close_everyone(vendor, month, out, Choice(pdf, processes), advance))
    typer.echo(summary.render(), nl=False)
    for one in summary.refused:
        typer.echo(f"refused: {one.organization}: {one.error}", err=True)
    if summary.refused:
        raise typer.Exit(1)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demo leaves.")] = Path("demo-out"),
    config: Annotated[
        Path | None, typer.Option(help="vendor.yaml of another deployment than the embedded default.")
    ] = None,
) -> None:
    """Play the whole product in about three minutes: a real Milvus, metered, billed, paged."""
    from console.demo.scenario import run_demo

    asyncio.run(run_demo(out, config))
