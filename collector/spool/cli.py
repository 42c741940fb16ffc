"""`byoc collector spool ...` and `byoc collector verify`: what waits, what was kept, what is proven."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from collector.left_cli import ConfigOption
from collector.settings import CollectorSettings, load_collector_settings
from collector.spelling import parse_duration
from collector.wire.headers import PushLane
from kernel.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="What lies on disk between scrape and gateway.")
LaneOption = Annotated[PushLane | None, typer.Option("--lane", help="Only this lane.")]


class ExportFormat(StrEnum):
    """What `export` writes."""

    CSV = "csv"
    OPENMETRICS = "openmetrics"
    FRAMES = "frames"


@app.command("ls")
def list_segments(config: ConfigOption, lane: LaneOption = None) -> None:
    """Segments, tab-separated: where each is, which numbers it holds, and which of them are settled."""
    from collector.spool.listing import list_lane

    now = SystemClock().now_ms() / 1000
    typer.echo("lane\twhere\tepoch\tgroup\tnumbers\tbytes\tage_seconds\tsettled")
    for one in _lanes(lane):
        for row in list_lane(_folder(load_collector_settings(config), one)):
            numbers = f"{row.first}-{row.last}" if row.first else "-"
            fields = (one.value, row.where, row.name.epoch, row.name.number, numbers, row.bytes)
            typer.echo("\t".join(map(str, (*fields, round(now - row.modified), row.settled))))


@app.command("verify")
def verify_spool(config: ConfigOption, lane: LaneOption = None) -> None:
    """Read every segment, waiting or kept, and say what is damaged. Ends with 1 if anything is."""
    from collector.spool.listing import count_segments, find_damage

    damages = segments = 0
    settings = load_collector_settings(config)
    for one in _lanes(lane):
        segments += count_segments(_folder(settings, one))
        for line in find_damage(_folder(settings, one)):
            typer.echo(f"{one.value}\t{line}")
            damages += 1
    typer.echo(f"segments read: {segments}; damaged places: {damages}", err=True)
    if damages:
        raise typer.Exit(1)


@app.command()
def export(
    config: ConfigOption,
    lane: Annotated[PushLane, typer.Option("--lane", help="Which lane.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; of frames: a folder.")],
    epoch: Annotated[int | None, typer.Option(help="Only this epoch.")] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="From this number on.")] = 1,
    last: Annotated[int | None, typer.Option("--to", help="Up to this number.")] = None,
    to_format: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.CSV,
) -> None:
    """Write what lies in the spool, kept frames included: as rows, or the bodies as they are sent."""
    from collector.spool.export import Range, export_bodies, export_csv, export_openmetrics

    folder = _folder(load_collector_settings(config), lane)
    wanted = Range(epoch, first, last)
    write = {
        ExportFormat.CSV: export_csv,
        ExportFormat.OPENMETRICS: export_openmetrics,
        ExportFormat.FRAMES: export_bodies,
    }[to_format]
    typer.echo(f"{write(folder, wanted, out)} written to {out}")


@app.command()
def purge(
    config: ConfigOption,
    lane: Annotated[PushLane, typer.Option("--lane", help="Which lane.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really: what is purged never arrives.")] = False,
    older_than: Annotated[str, typer.Option(help="Only segments not written for so long, such as 3d.")] = "0s",
) -> None:
    """Give up what waits; each number of it stands in a gap record afterwards. The collector must be stopped."""
    from collector.shipping import lane_options
    from collector.spool.listing import purge_lane

    settings = load_collector_settings(config)
    options, folder = lane_options(settings, lane), _folder(settings, lane)
    try:
        seconds = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not yes:
        typer.echo("nothing was purged: say --yes if what waits in this lane shall never arrive", err=True)
        raise typer.Exit(2)
    frames = purge_lane(folder, options, seconds)
    typer.echo(f"{lane.value}: {frames} frames given up, each in a gap record")


def verify(
    config: ConfigOption,
    lane: LaneOption = None,
    full: Annotated[bool, typer.Option("--full", help="Read all again, also what was found good before.")] = False,
) -> None:
    """Prove that every number of every epoch arrived: by a receipt that holds, or stands in a gap record.

    Ends with 1 and says what is missing otherwise. Needs no gateway. What an earlier run found good is read again
    only with `--full`.
    """
    from collector.identity.receipt_keys import ReceiptKeys
    from collector.identity.store import IdentityFolder
    from collector.spool.proof import Prover
    from collector.spool.proven import render_proof

    settings = load_collector_settings(config)
    keys = ReceiptKeys(IdentityFolder(settings.gateway.identity)).load()
    holds = True
    for one in _lanes(lane):
        folder = _folder(settings, one)
        if not folder.is_dir():
            continue
        proof = Prover(folder, keys, keeps_bodies=one is PushLane.BILLING, full=full).run()
        for line in render_proof(proof):
            typer.echo(line, file=sys.stdout)
        holds = holds and proof.holds
    if not holds:
        typer.echo("not everything is proven", err=True)
        raise typer.Exit(1)
    typer.echo("every number is proven, stands in a gap record, or waits")


def _lanes(lane: PushLane | None) -> list[PushLane]:
    return list(PushLane) if lane is None else [lane]


def _folder(settings: CollectorSettings, lane: PushLane) -> Path:
    return settings.spool.folder / lane.value
