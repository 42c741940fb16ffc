"""Single commands of the composition root: `byoc up`, `byoc close`, `byoc demo`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.parts import Part

if TYPE_CHECKING:
    from console.wiring import Vendor


def register(app: typer.Typer) -> None:
    """Add the commands; what they need is imported when they run."""
    app.command("up")(up)
    app.command("close")(close)
    app.command("demo")(demo)
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
    organization: Annotated[str, typer.Option(help="Whose month.")],
    out: Annotated[Path, typer.Option(help="Folder for report and invoice.")],
    zone: Annotated[str, typer.Option(help="Time zone of the month's edges.")] = "Etc/UTC",
) -> None:
    """Close a month of an organization: hours, report, invoice. Repeatable."""
    from console.month import close_month
    from kernel.ids import OrganizationId, parse_id

    owner = OrganizationId(parse_id(organization, "organization", "option --organization"))
    closed = asyncio.run(close_month(ctx.obj, owner, month, out, zone))
    for invoice in (*closed.invoices.commitments, closed.invoices.invoice):
        typer.echo(f"{invoice.number}\t{invoice.kind}\t{invoice.period}\t{invoice.gross} {invoice.currency}")
    for path in closed.files:
        typer.echo(str(path))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what the demo leaves.")] = Path("demo-out"),
    config: Annotated[
        Path | None, typer.Option(help="vendor.yaml of another deployment than the embedded default.")
    ] = None,
) -> None:
    """Play the whole product in about three minutes: a real Milvus, metered, billed, paged."""
    from console.demo.scenario import run_demo

    asyncio.run(run_demo(out, config))
