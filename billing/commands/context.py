"""What the commands of billing share: the vendor side, and arguments."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernel.clock import Clock, SystemClock
from kernel.errors import ByocError, truncate
from kernel.ids import OrganizationId, parse_id

if TYPE_CHECKING:  # what these load is not in the base install, where `byoc licence check` runs too
    from billing.book import ContractBook
    from billing.pdf import InvoicePdf
    from billing.prepaid import Prepaid
    from billing.proof.statement import InvoiceSigner
    from billing.receivables import Receivables
    from billing.run import InvoiceRun
    from kernel.deployment import Deployment

ACTOR = "cli"
File = Annotated[Path, typer.Argument(help="YAML file.")]
Organization = Annotated[str, typer.Argument(help="Id of the organization.")]
Month = Annotated[str, typer.Argument(help="YYYY-MM, in the contract's time zone.")]
Number = Annotated[str, typer.Argument(help="Number of the document.")]
OneContract = Annotated[str | None, typer.Option("--contract", help="Which, when two cover parts of the month.")]
OnlyOrganization = Annotated[str | None, typer.Option("--organization", help="Only this organization's.")]


def receivables_of(ctx: typer.Context) -> Receivables:
    """What happens to its documents."""
    from billing.receivables import Receivables

    deployment = deployment_of(ctx)
    return Receivables(deployment.database(), deployment.clock, deployment.audit(), ACTOR, signer_of(ctx))


def signer_of(ctx: typer.Context) -> InvoiceSigner | None:
    """Its key for documents; None while it has no authority."""
    from billing.proof.signatures import open_signer

    deployment = deployment_of(ctx)
    return open_signer(deployment.authority_folder, deployment.clock)


def prepaid_of(ctx: typer.Context) -> Prepaid:
    """Its prepaid credits."""
    from billing.prepaid import Prepaid

    deployment = deployment_of(ctx)
    return Prepaid(deployment.database(), deployment.clock, deployment.audit(), ACTOR)


def deployment_of(ctx: typer.Context) -> Deployment:
    """The vendor side that the command is for."""
    from kernel.deployment import Deployment

    deployment = ctx.obj
    assert isinstance(deployment, Deployment)
    return deployment


def clock_of(ctx: typer.Context) -> Clock:
    """Its clock, or this machine's where there is no vendor side."""
    clock: Clock = SystemClock() if ctx.obj is None else deployment_of(ctx).clock
    return clock


def book_of(ctx: typer.Context, meters: Collection[str] | None = None) -> ContractBook:
    """Its contracts, licences and price books; `meters`: those that contracts may charge for."""
    from billing.book import ContractBook

    deployment = deployment_of(ctx)
    return ContractBook(deployment.database(), deployment.clock, deployment.audit(), meters)


def meters_of(ctx: typer.Context) -> frozenset[str]:
    """What its catalogue has: hours of other meters are not closed, so no contract can charge for them."""
    from metering.meters.catalogue import open_catalogue
    from metering.usage.settings import UsageSettings

    settings = deployment_of(ctx).section("usage", UsageSettings)
    return frozenset(meter.meter for meter in open_catalogue(settings.catalogue).meters)


def run_of(ctx: typer.Context) -> InvoiceRun:
    """Its invoice run."""
    from billing.run import InvoiceRun
    from metering.usage.api import UsageStore  # its lake libraries take two seconds to load

    deployment = deployment_of(ctx)
    database = deployment.database()
    store = UsageStore(database)
    return InvoiceRun(database, store, deployment.clock, deployment.audit(), ACTOR, signer_of(ctx))


def pdf_of(ctx: typer.Context) -> InvoicePdf:
    """The renderer, with the logos in the deployment's folder."""
    from billing.pdf import invoice_pdf

    return invoice_pdf(deployment_of(ctx).folder / "logos")


def organization_of(text: str) -> OrganizationId:
    """An organization named on the command line. Raises InvalidInput."""
    return OrganizationId(parse_id(text, "organization"))


def optional_organization(text: str | None) -> OrganizationId | None:
    """The same where none means all."""
    return organization_of(text) if text else None


def write_file(path: Path, content: bytes) -> None:
    """Raises ByocError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ByocError(f"{truncate(str(path))} can't be written: {error.strerror}") from error
