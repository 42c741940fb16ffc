"""`byoc ca`, `byoc enrol` and `byoc revoke`: the vendor's commands about identity."""

from __future__ import annotations

import getpass
import json
from typing import Annotated

import typer

from kernel.clock import from_ms
from kernel.deployment import Deployment
from kernel.identity.authority import CertificateAuthority
from kernel.identity.enrolment import EnrolmentTokens
from kernel.identity.revocation import Revocations
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant, parse_id

ca_app = typer.Typer(no_args_is_help=True, help="The certificate authority that names collectors: init, show.")
enrol_app = typer.Typer(no_args_is_help=True, help="Enrolment tokens for collectors: create, list.")
revoke_app = typer.Typer(no_args_is_help=True, help="Revoke certificates: of a collector, or by serial number.")

Organization = Annotated[str, typer.Option(help="Organization id.")]
Project = Annotated[str, typer.Option(help="Project id.")]
Collector = Annotated[str, typer.Option(help="Collector id.")]
Reason = Annotated[str, typer.Option(help="Why; written to the audit log.")]


@ca_app.command("init")
def init_authority(
    ctx: typer.Context,
    trust_domain: Annotated[str | None, typer.Option(help="Default: the deployment's trust_domain.")] = None,
) -> None:
    """Make the CA in the deployment's folder. Refuses to overwrite one."""
    deployment = _deployment(ctx)
    deployment.make_folder()
    domain = trust_domain or deployment.settings.trust_domain
    CertificateAuthority.create(deployment.authority_folder, domain, deployment.clock)
    typer.echo(f"trust domain {domain}, CA in {deployment.authority_folder}: back it up, keep its key to yourself")


@ca_app.command("show")
def show_authority(ctx: typer.Context) -> None:
    """Print the CA's certificate, which every collector trusts."""
    deployment = _deployment(ctx)
    authority = CertificateAuthority.open(deployment.authority_folder, deployment.clock)
    typer.echo(authority.certificate_pem.decode(), nl=False)


@enrol_app.command("create")
def create_token(
    ctx: typer.Context,
    organization: Organization,
    project: Project,
    collector: Collector,
    lifetime_seconds: Annotated[int, typer.Option(help="Seconds until the token expires, at most 604800.")] = 3600,
) -> None:
    """Print a new single-use token on standard output. It is shown this once and stored only as a hash."""
    tenant, name = _names(organization, project, collector)
    typer.echo(_tokens(_deployment(ctx)).create(tenant, name, lifetime_seconds, actor=_actor()))


@enrol_app.command("list")
def list_tokens(ctx: typer.Context) -> None:
    """One line of JSON for each token, newest first; the tokens themselves are not known any more."""
    deployment = _deployment(ctx)
    now_ms = deployment.clock.now_ms()
    for row in _tokens(deployment).list():
        line = {
            "organization": row.tenant.organization,
            "project": row.tenant.project,
            "collector": row.collector,
            "state": row.state(now_ms),
            "created_at": from_ms(row.created_ms).isoformat(),
            "expires_at": from_ms(row.expires_ms).isoformat(),
        }
        typer.echo(json.dumps(line))


@revoke_app.command("collector")
def revoke_collector(
    ctx: typer.Context, organization: Organization, project: Project, collector: Collector, reason: Reason
) -> None:
    """Revoke every certificate of a collector and cancel its tokens. Gateways close its connections in a second."""
    tenant, name = _names(organization, project, collector)
    count = _revocations(_deployment(ctx)).revoke_collector(tenant, name, reason, actor=_actor())
    typer.echo(f"{count} certificates of {tenant}/{name} revoked; a new token enrols it again")


@revoke_app.command("serial")
def revoke_serial(
    ctx: typer.Context, serial: Annotated[str, typer.Argument(help="Hexadecimal serial number.")], reason: Reason
) -> None:
    """Revoke one certificate."""
    _revocations(_deployment(ctx)).revoke_serial(serial, reason, actor=_actor())
    typer.echo(f"certificate {serial} revoked")


def _deployment(ctx: typer.Context) -> Deployment:
    deployment = ctx.obj
    assert isinstance(deployment, Deployment)
    return deployment


def _tokens(deployment: Deployment) -> EnrolmentTokens:
    return EnrolmentTokens(deployment.database(), deployment.clock, deployment.audit())


def _revocations(deployment: Deployment) -> Revocations:
    return Revocations(deployment.database(), deployment.clock, deployment.audit())


def _names(organization: str, project: str, collector: str) -> tuple[Tenant, CollectorId]:
    tenant = Tenant(
        OrganizationId(parse_id(organization, "organization", "--organization")),
        ProjectId(parse_id(project, "project", "--project")),
    )
    return tenant, CollectorId(parse_id(collector, "collector", "--collector"))


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"
