"""`byoc alerts`: check rule files, see alerts, deliveries and receivers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from alerts import models
from alerts.api import load_groups
from alerts.collectors import forget_collector
from alerts.ledger import enable_receiver
from alerts.rulefile import load_rule_files
from alerts.settings import AlertSettings
from alerts.states import State
from kernel.clock import from_ms
from kernel.database import Transaction
from kernel.deployment import Deployment
from kernel.errors import NotFound, truncate
from kernel.ids import CollectorId, Tenant, parse_id

app = typer.Typer(no_args_is_help=True, help="Alert rules, alerts and their delivery.")

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many lines, newest first.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")]


@app.command()
def check(
    context: typer.Context,
    files: Annotated[list[Path] | None, typer.Argument(help="Rule files; none: those of the settings.")] = None,
) -> None:
    """Read rule files as the service would; every defect is named with its line, and then the exit status is 2."""
    settings = _settings(context)
    groups = load_rule_files(files, settings.retention_seconds * 1000) if files else load_groups(settings)
    for receiver in settings.receivers:
        receiver.load_secrets()
    rules = sum(len(group.rules) for group in groups)
    typer.echo(f"{rules} rules in {len(groups)} groups; {len(settings.receivers)} receivers")


@app.command("list")
def list_alerts(
    context: typer.Context,
    organization: Annotated[str | None, typer.Option(help="Only this organization.")] = None,
    resolved: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Alerts that are pending or firing."""
    table = models.instances
    statement = sa.select(table).order_by(table.c.active_at_ms.desc()).limit(limit)
    if organization is not None:
        statement = statement.where(
            table.c.organization == parse_id(organization, "organization", "--organization")
        )
    if not resolved:
        statement = statement.where(table.c.state != State.RESOLVED.value)
    rows = [
        {
            "state": row["state"],
            "organization": row["organization"],
            "alert": json.loads(row["labels"])["alertname"],
            "labels": json.loads(row["labels"]),
            "summary": json.loads(row["annotations"]).get("summary", ""),
            "value": row["value"],
            "active_at": _time(row["active_at_ms"]),
            "fired_at": _time(row["fired_at_ms"]),
            "resolved_at": _time(row["resolved_at_ms"]),
        }
        for row in _rows(context, statement)
    ]
    _show(rows, as_json)


@app.command()
def deliveries(
    context: typer.Context,
    receiver: Annotated[str | None, typer.Option(help="Only this receiver.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Every attempt to deliver, newest first."""
    table = models.attempts
    statement = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if receiver is not None:
        statement = statement.where(table.c.receiver == receiver)
    rows = [
        {
            "started": _time(row["started_ms"]),
            "receiver": row["receiver"],
            "organization": row["organization"],
            "webhook_id": row["webhook_id"],
            "outcome": row["outcome"],
            "status": row["status"],
            "milliseconds": row["duration_ms"],
            "detail": row["detail"],
        }
        for row in _rows(context, statement)
    ]
    _show(rows, as_json)


@app.command()
def receivers(context: typer.Context, as_json: AsJson = False) -> None:
    """Receivers of the settings: how they do, and what waits for them."""
    outbox = models.outbox
    waiting = {
        row["receiver"]: row["waiting"]
        for row in _rows(
            context,
            sa.select(outbox.c.receiver, sa.func.count().label("waiting"))
            .where(outbox.c.settled_ms.is_(None))
            .group_by(outbox.c.receiver),
        )
    }
    known = {row["name"]: row for row in _rows(context, sa.select(models.receivers))}
    rows = []
    for receiver in _settings(context).receivers:
        state: Any = known.get(receiver.name, {})
        rows.append(
            {
                "receiver": receiver.name,
                "state": "disabled" if state.get("disabled_ms") else "failing" if state.get("failures") else "well",
                "waiting": waiting.get(receiver.name, 0),
                "failures": state.get("failures", 0),
                "last_success": _time(state.get("last_success_ms")),
                "last_error": state.get("last_error") or "",
            }
        )
    _show(rows, as_json)


@app.command()
def enable(context: typer.Context, receiver: Annotated[str, typer.Argument(help="Name of a receiver.")]) -> None:
    """Try a receiver again that answered 410 Gone; what waits for it is sent."""
    if not _transact(context, lambda connection: enable_receiver(connection, receiver)):
        raise NotFound(f"no receiver {truncate(receiver, 63)!r} is disabled; `byoc alerts receivers` lists them")


@app.command()
def forget(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="organization/project")],
    collector: Annotated[str, typer.Argument(help="Id of the collector.")],
) -> None:
    """Stop watching a collector that was taken out of service. It is watched again once it sends."""
    found, name = Tenant.parse(tenant), CollectorId(parse_id(collector, "collector"))
    now_ms = _deployment(context).clock.now_ms()
    if not _transact(context, lambda connection: forget_collector(connection, found, name, now_ms)):
        raise NotFound(f"no collector {name} of {found} has ever been heard")
    typer.echo("forgotten; its alert resolves within a minute or two")


def _deployment(context: typer.Context) -> Deployment:
    deployment: Deployment = context.obj
    return deployment


def _settings(context: typer.Context) -> AlertSettings:
    return _deployment(context).section("alerts", AlertSettings)


def _transact(context: typer.Context, transaction: Transaction[Any]) -> Any:
    return _deployment(context).database().transact(transaction)


def _rows(context: typer.Context, statement: sa.Select[Any]) -> Sequence[Any]:
    return list(_transact(context, lambda connection: connection.execute(statement).mappings().all()))


def _time(moment_ms: int | None) -> str:
    return f"{from_ms(moment_ms):%Y-%m-%dT%H:%M:%SZ}" if moment_ms is not None else ""


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    if not rows:
        typer.echo("none")
        return
    shown = [name for name in rows[0] if not isinstance(rows[0][name], dict)]
    table = Table(*shown, box=None)
    for row in rows:
        table.add_row(*(truncate(str("" if row[name] is None else row[name]), 80) for name in shown))
    Console(soft_wrap=True).print(table)
