"""`byoc lake`: what the lake holds, how far it lies behind the log, whether it is whole; its upkeep by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

import typer

from kernel.clock import Clock
from kernel.errors import Retry
from kernel.log import Log, TopicPartition
from kernel.objects import ObjectStore
from kernel.settings import Section
from metering.lake.api import Lake, LakeInfo
from metering.lake.compact import Compacted, Compactor
from metering.lake.errors import FileDamaged
from metering.lake.flush import DEAD_LETTERS
from metering.lake.retention import drop_old_days, tag_closed_months
from metering.lake.settings import LakeSettings
from metering.lake.sweep import Sweeper
from metering.lake.verify import Report, verify

C = TypeVar("C", bound=Section)
T = TypeVar("T")
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

    def section(self, name: str, model: type[C]) -> C:
        """The settings of a component."""

    def objects(self) -> ObjectStore:
        """Where horizons and dead letters are."""

    async def log(self) -> Log:
        """The log that the lake is written from."""

    async def close(self) -> None:
        """Release what was opened."""


@lake_app.command("info")
def show_info(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Rows, files, bytes, snapshots, positions, lag behind the log, and records put aside."""
    document = asyncio.run(_with_lake(ctx.obj, _read_info))
    if as_json:
        typer.echo(json.dumps(document))
        return
    for name, value in document.items():
        shown = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{name:<18} {'-' if shown in (None, '') else shown}")


@lake_app.command("verify")
def verify_lake(ctx: typer.Context) -> None:
    """Open, hash and read every file of the newest snapshot; exit code 1 with findings if anything is wrong."""

    async def read(lake: Lake, deployment: LakeDeployment) -> Report:
        return await verify(lake.places, await _ends(deployment, (await lake.info()).positions))

    report = asyncio.run(_with_lake(ctx.obj, read))
    for finding in report.findings:
        typer.echo(finding)
    typer.echo(
        f"{report.files} files, {report.rows} rows, {report.size_bytes} bytes: {len(report.findings)} findings"
    )
    if report.findings:
        raise typer.Exit(1)


@lake_app.command("compact")
def compact_lake(
    ctx: typer.Context,
    files: Annotated[int, typer.Option(min=2, help="Small files of a day and project from which on to merge.")] = 2,
) -> None:
    """Merge small files now, until there are none; safe beside a running writer. Exit code 1 if one is damaged."""

    async def merge(lake: Lake, deployment: LakeDeployment) -> tuple[list[Compacted], bool]:
        compactor = Compactor(lake.places, deployment.section("lake", LakeSettings))
        found: list[Compacted] = []
        is_whole = True
        while True:
            try:
                done = await compactor.compact_one(files)
            except FileDamaged as error:
                typer.echo(f"left alone: {error}")
                is_whole = False
                continue
            if done is None:
                return found, is_whole
            found.append(done)
            typer.echo(
                f"{done.files_before} files of {done.size_before} bytes -> {done.files_after}, {done.size_after}"
            )

    done, is_whole = asyncio.run(_with_lake(ctx.obj, merge))
    typer.echo(f"{sum(each.files_before for each in done)} files merged, {sum(each.rows for each in done)} rows")
    if not is_whole:
        raise typer.Exit(1)


@lake_app.command("expire")
def expire_lake(ctx: typer.Context) -> None:
    """Tag closed months, drop days beyond the retention, forget old snapshots, delete what none refers to."""

    async def expire(lake: Lake, deployment: LakeDeployment) -> str:
        settings = deployment.section("lake", LakeSettings)
        now_ms = deployment.clock.now_ms()
        tags = await tag_closed_months(lake.places, now_ms, settings.month_tag_days)
        days = settings.retention_days, settings.exemplar_retention_days
        dropped = await drop_old_days(lake.places, now_ms, *days)
        sweeper = Sweeper(lake, settings, deployment.clock)
        expired, swept = await sweeper.expire(), await sweeper.sweep()
        return (
            f"months tagged: {', '.join(tags) or 'none'}; files of old days taken out: {dropped}; "
            f"snapshots forgotten: {expired}; files deleted: {swept.files} of {swept.size_bytes} bytes"
        )

    typer.echo(asyncio.run(_with_lake(ctx.obj, expire)))


async def _with_lake(deployment: LakeDeployment, work: Callable[[Lake, LakeDeployment], Awaitable[T]]) -> T:
    try:
        lake = await Lake.open(
            deployment.catalog_url,
            deployment.warehouse,
            deployment.objects(),
            deployment.clock,
            deployment.lake_properties,
        )
        try:
            return await work(lake, deployment)
        finally:
            await lake.close()
    finally:
        await deployment.close()


async def _read_info(lake: Lake, deployment: LakeDeployment) -> dict[str, Any]:
    info = await lake.info()
    dead = [found.name async for found in lake.objects.list(DEAD_LETTERS)]
    return render_info(info, len(dead), await _ends(deployment, info.positions))


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
        **{f"{name}_rows": rows for name, rows in info.beside.items()},
        "collectors": info.sources,
        "missing_pushes": info.missing_pushes,
        "given_up_pushes": dict(sorted(info.given_up.items())),
        "dead_letters": dead_letters,
        "lag_records": lag,
        "horizon_sha256": info.horizon_sha256,
        "positions": {f"{source.topic}/{source.partition}": at for source, at in sorted(info.positions.items())},
    }
