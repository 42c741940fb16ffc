"""`byoc lake`: what the lake holds and how far it lies behind the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import typer

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.log import Log, TopicPartition
from kernel.objects import ObjectStore
from metering.lake.api import Lake, LakeInfo
from metering.lake.flush import DEAD_LETTERS

lake_app = typer.Typer(no_args_is_help=True, help="The lake: rows, files, positions.")


class LakeDeployment(Protocol):
    """What these commands need of the deployment."""

    clock: Clock

    @property
    def catalog_url(self) -> str:
        """The catalog's SQLAlchemy URL."""

    @property
    def warehouse(self) -> str:
        """The URI below which the tables' files lie."""

    @property
    def lake_properties(self) -> dict[str, str]:
        """What pyiceberg is told of S3."""

    def objects(self) -> ObjectStore:
        """Where horizons and dead letters are."""

    async def log(self) -> Log:
        """The log that the lake is written from."""

    async def close(self) -> None:
        """Release what was opened."""


@lake_app.callback()
def lake() -> None:
    """A callback keeps `info` a subcommand while it is the only one."""


@lake_app.command("info")
def show_info(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Rows, files, bytes, snapshots, positions, lag behind the log, and records put aside."""
    document = asyncio.run(_read_info(ctx.obj))
    if as_json:
        typer.echo(json.dumps(document))
        return
    for name, value in document.items():
        shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name:<18} {'-' if shown in (None, '') else shown}")


async def _read_info(deployment: LakeDeployment) -> dict[str, Any]:
    try:
        lake = await Lake.open(
            deployment.catalog_url,
            deployment.warehouse,
            deployment.objects(),
            deployment.clock,
            deployment.lake_properties,
        )
        try:
            info = await lake.info()
            dead = [found.name async for found in lake.objects.list(DEAD_LETTERS)]
        finally:
            await lake.close()
        return render_info(info, len(dead), await _ends(deployment, info.positions))
    finally:
        await deployment.close()


async def _ends(
    deployment: LakeDeployment, positions: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int] | None:
    try:
        log = await deployment.log()
        ends: dict[TopicPartition, int] = {}
        for topic in sorted({source.topic for source in positions}):
            ends.update(await log.end_offsets(topic))
    except Retry:
        return None  # the lake can be looked at while the log is away
    return ends


def render_info(info: LakeInfo, dead_letters: int, ends: Mapping[TopicPartition, int] | None) -> dict[str, Any]:
    """The document that `info --json` prints; `lag_records` is null when the log can't be asked."""
    lag = None
    if ends is not None:
        lag = sum(max(0, end - info.positions.get(source, 0)) for source, end in ends.items())
    return {
        "snapshot": info.snapshot_id,
        "rows": info.rows,
        "files": info.files,
        "size_bytes": info.size_bytes,
        "bytes_per_sample": round(info.size_bytes / info.rows, 3) if info.rows else None,
        "snapshots": info.snapshots,
        "series_rows": info.series,
        "collectors": info.sources,
        "missing_pushes": info.missing_pushes,
        "dead_letters": dead_letters,
        "lag_records": lag,
        "horizon_sha256": info.horizon_sha256,
        "positions": {f"{source.topic}/{source.partition}": at for source, at in sorted(info.positions.items())},
    }
