"""`byoc collector left`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The collector's settings, collector.yaml.")]


class Grain(StrEnum):
    """How fine `--by` is."""

    HOUR = "hour"
    DAY = "day"


def left(
    config: ConfigOption,
    series: Annotated[bool, typer.Option("--series", help="List series, not families.")] = False,
    family: Annotated[
        str | None, typer.Option(help="Only this metric family's series, or its hours or days.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this time on, UTC: 2026-01-31 or 2026-01-31T12:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before this time.")] = None,
    by: Annotated[Grain | None, typer.Option(help="A row for each hour or day and family.")] = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="Changes of the policy, gaps, stops of shipping.")
    ] = False,
    receivers: Annotated[
        bool, typer.Option("--receivers", help="What went to receivers of remote_write, by receiver and metric.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most series to list.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the hash chain and print its head.")] = False,
    head: Annotated[str | None, typer.Option(help="With --verify: a head kept from before, sequence:hash.")] = None,
) -> None:
    """What has left the VPC: by metric family or series, with counts and bytes; in a pipe tab-separated."""
    from collector.app import ledger_path
    from collector.left_read import LeftReader, Period, is_ledger
    from collector.left_report import Question, parse_moment, render_json, render_lines, render_table, render_totals
    from collector.settings import load_collector_settings

    path = ledger_path(load_collector_settings(config))
    asked = Question(
        Period(parse_moment(since, "--since") or 0, parse_moment(until, "--until") or 2**63 - 1),
        by.value if by else None, series, family, changes, limit, receivers,
    )  # fmt: skip
    if not is_ledger(path):
        typer.echo("nothing has left: there is no ledger yet")
        return
    ledger = LeftReader(path)
    try:
        if verify:
            raise typer.Exit(_verify(ledger, head))
        if as_json:
            typer.echo(render_json(ledger, asked))
        elif sys.stdout.isatty():
            Console().print(render_table(ledger, asked))
        else:
            for line in render_lines(ledger, asked):
                typer.echo(line)
            typer.echo(render_totals(ledger, asked), err=True)  # not among the rows, which another program reads
    finally:
        ledger.close()


def _verify(ledger: object, head: str | None) -> int:
    from collector.left_chain import Head
    from collector.left_read import LeftReader

    assert isinstance(ledger, LeftReader)
    verdict = ledger.verify(Head.parse(head) if head else None)
    for broken in verdict.findings:
        typer.echo(str(broken), err=True)
    if verdict.findings:
        typer.echo("the ledger is not what was written: keep the file as it is", err=True)
        return 1
    typer.echo(f"good: {verdict.entries} entries, {verdict.rolled_up} more rolled up")
    if verdict.open:
        typer.echo("the last entry is still open and not in the head")
    typer.echo(f"head {verdict.head}")
    return 0
