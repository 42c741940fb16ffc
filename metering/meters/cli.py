"""`byoc meters`: check a catalogue of meters, and list what one holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metering.meters.catalogue import open_catalogue

app = typer.Typer(no_args_is_help=True, help="Catalogues of meters.")


@app.command("check")
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="A catalogue in YAML.")]) -> None:
    """Read a catalogue and say what is wrong with it; nothing is stored."""
    catalogue = open_catalogue(file)
    typer.echo(f"{file}: catalogue {catalogue.name}, {len(catalogue.meters)} meters, sha256 {catalogue.sha256}")


@app.command("list")
def list_meters(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Default: the pack for Milvus.")] = None,
) -> None:
    """List the meters of a catalogue: id, kind, unit, and the metrics they read."""
    catalogue = open_catalogue(file)
    layout = "{:<26} {:<17} {:<14} {}"
    typer.echo(layout.format("meter", "kind", "unit", "metrics"))
    for meter in catalogue.meters:
        metrics = ", ".join(each.metric for each in meter.series)
        typer.echo(layout.format(meter.meter, meter.kind, meter.unit, metrics))
    typer.echo(f"catalogue {catalogue.name}")
