"""`byoc collector ...`: what runs in the customer's VPC."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from collector.left_cli import ConfigOption, left
from collector.policy_cli import app as policy_app
from collector.settings import CollectorSettings, load_collector_settings
from kernel.logs import configure_logs

app = typer.Typer(
    no_args_is_help=True, help="Scrape inside the VPC, keep on disk, push out what is allowed to leave."
)


@app.command()
def run(
    config: ConfigOption,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the settings and end.")] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Scrape and push until stopped."""
    settings = load_collector_settings(config)
    if check_config:
        typer.echo(f"{config}: {len(settings.scrape_configs)} scrape jobs, gateway {settings.gateway.url}: good")
        return
    configure_logs(log_level.upper())
    uvloop.run(_run(settings, config))


async def _run(settings: CollectorSettings, config: Path) -> None:
    from collector.app import CollectorService

    await CollectorService(settings, config=config).run()


@app.command()
def enrol(config: ConfigOption) -> None:
    """Use the enrolment token now; `run` does it by itself when there is no certificate."""
    from collector.app import enrol_once

    configure_logs("WARNING")
    typer.echo(f"enrolled as {asyncio.run(enrol_once(load_collector_settings(config)))}")


app.command()(left)
app.add_typer(policy_app, name="policy")


@app.command()
def backfill(
    config: ConfigOption,
    file: Annotated[Path | None, typer.Argument(help="CSV: timestamp_ms, metric, value, labels.")] = None,
) -> None:
    """Send a CSV of history in the history lane; without a file, finish what an earlier run began."""
    from collector.history.command import backfill as send

    configure_logs("WARNING")
    outcome = uvloop.run(send(load_collector_settings(config), file))
    typer.echo(
        f"{outcome.rows} samples in the file, {outcome.denied} kept in by the policy,"
        f" {outcome.appended} sent now, {outcome.rejected} series rejected in all"
    )
