"""`byoc`: every component's commands, mounted lazily, so that the collector runs where the vendor side is not.

Exit status: 0; 1 an error; 2 an input that was refused (and nothing of it was applied).
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from console import commands
from kernel.errors import ByocError, InvalidInput, truncate, without_passwords

EXIT_ERROR = 1
EXIT_REFUSED = 2

# Commands that may be the first in a folder. Any other is told that there is no vendor side: a name mistyped is the
# likelier reason, and an empty database would answer as if all were well.
CREATING = frozenset(
    {"up", "ca init", "organization create", "price add", "contract add", "licence add", "license add"}
)
# What needs no vendor side, neither its folder nor its libraries: a customer has the base install alone.
STANDALONE = frozenset(
    {"demo", "verify-invoice", "licence check", "license check", "meters check", "meters list", "price check"}
)
PLACE = "byoc.place"  # --dir and --config, in the context
OWN_PACKAGES = frozenset({"alerts", "billing", "collector", "console", "kernel", "metering", "provisioner"})


@dataclass(frozen=True, slots=True)
class Mount:
    """Where the commands of a group live."""

    module: str
    attribute: str
    summary: str
    extra: str = "vendor"  # the extra that must be installed; "" for the base install


GROUPS: dict[str, Mount] = {
    "collector": Mount("collector.cli", "app", "In the customer's VPC: run, enrol, what left, backfill.", extra=""),
    "ca": Mount("kernel.identity.cli", "ca_app", "The authority that names collectors."),
    "enrol": Mount("kernel.identity.cli", "enrol_app", "Enrolment tokens: single use, short-lived."),
    "revoke": Mount("kernel.identity.cli", "revoke_app", "Revoke a collector's certificates, at once."),
    "audit": Mount("kernel.cli", "audit_app", "The hash-chained audit log: verify, export."),
    "organization": Mount("provisioner.cli", "org_app", "Organizations."),
    "project": Mount("provisioner.cli", "project_app", "Projects."),
    "cluster": Mount("provisioner.cli", "cluster_app", "Clusters: create, scale, suspend, resume, delete."),
    "price": Mount("billing.commands.prices", "price_app", "Price books: add, check, simulate."),
    "contract": Mount("billing.commands.contracts", "contract_app", "Contracts."),
    "licence": Mount("billing.commands.licences", "licence_app", "Licences: add, show, status, sign, check."),
    "license": Mount("billing.commands.licences", "licence_app", "The same as licence."),
    "invoice": Mount("billing.cli", "invoice_app", "Invoices: preview, finalize, credit, void, pay, show."),
    "credit": Mount("billing.cli", "credit_app", "Prepaid credits."),
    "receivables": Mount("billing.cli", "receivables_app", "What customers owe, by days overdue."),
    "export": Mount("billing.cli", "export_app", "Issued documents as FOCUS, to Stripe."),
    "marketplace": Mount(
        "billing.cli", "marketplace_app", "Charges that AWS Marketplace bills: send, list, resolve."
    ),
    "usage": Mount("metering.usage.cli", "app", "Hourly usage and the monthly report."),
    "meters": Mount("metering.meters.cli", "app", "Catalogues of meters: check, list."),
    "lake": Mount("metering.lake.cli", "lake_app", "The lake: rows, files, positions."),
    "alerts": Mount("alerts.cli", "app", "Alert rules, alerts and deliveries."),
}


def main(arguments: list[str] | None = None) -> None:
    """The console script. What can be expected to go wrong is one line; a traceback is a defect of ours."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        build_app(words)(args=words, prog_name="byoc")
    except InvalidInput as error:
        for finding in error.findings:
            typer.echo(f"refused: {finding}", err=True)
        sys.exit(EXIT_REFUSED)
    except ByocError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if "collector" in words or (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        _fail(str(_missing(error)))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(truncate(f"{error.strerror or error}{where}"))
    except Exception as error:
        if not _is_databases(error):
            raise
        # Without the statement and its parameters, which may be anybody's.
        _fail(truncate(f"database: {getattr(error, 'orig', None) or type(error).__name__}"))


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {without_passwords(message)}", err=True)
    sys.exit(EXIT_ERROR)


def _missing(error: ModuleNotFoundError) -> ByocError:
    return ByocError(f"this command needs {error.name}; install byoc[vendor] (the base install is the collector's)")


def _is_databases(error: Exception) -> bool:
    loaded = sys.modules.get("sqlalchemy.exc")  # never loaded for its own sake: the collector has none
    return loaded is not None and isinstance(error, loaded.SQLAlchemyError)


def build_app(words: list[str]) -> typer.Typer:
    """The command tree. Only the group that `words` name is imported; the others show their summary."""
    app = typer.Typer(
        help=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    wanted = set(words)
    for name, mount in GROUPS.items():
        if name in wanted:
            app.add_typer(_load(mount), name=name, help=mount.summary, callback=_open_group)
        else:
            placeholder = typer.Typer(help=mount.summary)
            placeholder.callback(invoke_without_command=True)(lambda: None)
            app.add_typer(placeholder, name=name)
    commands.register(app)
    return app


def _root(
    ctx: typer.Context,
    dir: Annotated[  # noqa: A002 - the option's name
        Path | None, typer.Option("--dir", help="Folder of an embedded vendor side; default ./byoc-data.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="vendor.yaml of a Kafka, S3 and PostgreSQL deployment.")
    ] = None,
) -> None:
    """Metering, billing, alerting and lifecycle for vendors of bring-your-own-cloud databases."""
    ctx.meta[PLACE] = (dir, config)
    if ctx.invoked_subcommand not in GROUPS:
        _open_vendor(ctx, str(ctx.invoked_subcommand))


def _open_group(ctx: typer.Context) -> None:
    if GROUPS[str(ctx.info_name)].extra:
        _open_vendor(ctx, f"{ctx.info_name} {ctx.invoked_subcommand}")


def _open_vendor(ctx: typer.Context, command: str) -> None:
    """Give the command the vendor side that the options name, if it needs one."""
    if command in STANDALONE:
        return
    from console.wiring import open_vendor

    vendor = open_vendor(*ctx.meta[PLACE])
    vendor.must_exist = command not in CREATING
    ctx.obj = vendor
    ctx.call_on_close(vendor.close_sync)


def _load(mount: Mount) -> typer.Typer:
    try:
        loaded = getattr(importlib.import_module(mount.module), mount.attribute)
    except ModuleNotFoundError as error:
        if not mount.extra or (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        raise _missing(error) from error
    assert isinstance(loaded, typer.Typer)
    return loaded
