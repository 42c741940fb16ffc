"""`byoc collector ...`: what runs in the customer's VPC."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from collector.left_cli import ConfigOption, left
from collector.policy_cli import app as policy_app
from collector.running import become
from collector.settings import CollectorSettings, load_collector_settings
from collector.spool.cli import app as spool_app
from collector.spool.cli import verify
from kernel.logs import configure_logs

app = typer.Typer(
    no_args_is_help=True, help="Scrape inside the VPC, keep on disk, push out what is allowed to leave."
)


class LogLevel(StrEnum):
    """What is logged: this and worse."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@app.command()
def run(
    config: ConfigOption,
    check_config: Annotated[bool, typer.Option("--check-config", help="Check the settings and end.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Least level to log.", case_sensitive=False)] = LogLevel.INFO,
) -> None:
    """Scrape and push until stopped. SIGHUP reads the settings and the policy again."""
    if not check_config:
        become(config, log_level)
    settings = load_collector_settings(config)
    _check_policy(settings)
    typer.echo(f"{config}: {len(settings.scrape_configs)} scrape jobs, gateway {settings.gateway.url}: good")


def _check_policy(settings: CollectorSettings) -> None:
    from collector.errors import PolicyRefused
    from collector.policy_keeper import load_policy

    problem = load_policy(settings, keep=False).problem
    if problem is not None:
        raise PolicyRefused(f"nothing would be pushed: {problem}")


@app.command()
def enrol(config: ConfigOption) -> None:
    """Use the enrolment token now; `run` does it by itself when there is no certificate."""
    from collector.app import enrol_once

    configure_logs("WARNING")
    typer.echo(f"enrolled as {asyncio.run(enrol_once(load_collector_settings(config)))}")


class Shown(StrEnum):
    """Which series `check` prints."""

    LEAVES = "leaves"
    STAYS = "stays"


@app.command()
def check(
    config: ConfigOption,
    job: Annotated[str | None, typer.Option(help="Only this job; with --body the job that scraped it.")] = None,
    target: Annotated[str | None, typer.Option(help="Only targets with this in their URL.")] = None,
    body: Annotated[Path | None, typer.Option(help="A file with a scraped page, instead of targets.")] = None,
    only: Annotated[Shown | None, typer.Option(help="Print only the series that leave, or that stay.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most series to print of a target.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document, with every series.")] = False,
) -> None:
    """Dry run: scrape each target once and print what each rule did to each series. Nothing is stored or sent."""
    from collector.check_command import Asked, any_failed, render
    from collector.check_command import check as run_check
    from kernel.clock import SystemClock

    configure_logs("WARNING")
    checked = asyncio.run(run_check(load_collector_settings(config), Asked(job, target, body), SystemClock()))
    if as_json:
        typer.echo(json.dumps({"targets": [page.as_json() for page in checked]}, indent=2))
    else:
        for line in render(checked, only.value if only else None, limit):
            typer.echo(line)
    raise typer.Exit(1 if any_failed(checked) else 0)


app.command()(left)
app.command()(verify)
app.add_typer(spool_app, name="spool")
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
