"""`byoc organization`, `byoc project`, `byoc cluster`: ask for operations and look at what is there.

The commands write jobs; the process of `byoc up` on the same deployment runs them.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import InvalidInput, Refuse
from kernel.ids import ClusterId, OrganizationId, ProjectId, parse_id
from provisioner.api import Job, JobState, NewCluster, Provisioner
from provisioner.ports import Audit, Capacity
from provisioner.records import Cluster
from provisioner.spec import ClusterSpec, parse_allocation, sized

T = TypeVar("T")
CUSTOMER_FOLDER = "vpc"  # below the deployment's folder: where the local provider keeps its projects
org_app = typer.Typer(no_args_is_help=True, help="Organizations: the vendor's customers.")
project_app = typer.Typer(no_args_is_help=True, help="Projects: an organization's VPCs.")
cluster_app = typer.Typer(no_args_is_help=True, help="Clusters: create, scale, suspend, resume, delete, look.")


class Wiring(Protocol):
    """What the commands need of `typer.Context.obj`. It may have `capacity: Capacity` besides."""

    clock: Clock

    @property
    def folder(self) -> Path: ...

    def database(self) -> Database: ...

    def audit(self) -> Audit: ...


WaitSeconds = Annotated[float | None, typer.Option("--wait", help="Seconds to wait for the job; default: do not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
Size = Annotated[str | None, typer.Option(help="A catalogue size such as 1cu; see the README for what is in one.")]
Vcpu = Annotated[
    str | None, typer.Option(help="Instead of a size: query=500,milvus=250,index=250,dependency=250 (milli-vCPU).")
]


def provisioner_of(wiring: Wiring) -> Provisioner:
    """A provisioner that only enqueues. Raises Refuse if the console passed no licence capacity."""
    from provisioner.engines.durable import DurableEngine
    from provisioner.local.provider import LocalProvider

    capacity: Capacity | None = getattr(wiring, "capacity", None)
    if capacity is None:
        raise Refuse("no licence capacity is wired to these commands: run them through `byoc`")
    database = wiring.database()
    provider = LocalProvider(wiring.folder / CUSTOMER_FOLDER)
    return Provisioner(database, DurableEngine(database), provider, capacity, wiring.audit(), wiring.clock)


@org_app.command("create")
def create_organization(
    ctx: typer.Context, name: str, id_: Annotated[str | None, typer.Option("--id", help="Default: random.")] = None
) -> None:
    """Create an organization and print its id."""
    made = _with(ctx, lambda provisioner: provisioner.create_organization(name, _actor(), id_))
    typer.echo(made.id)


@org_app.command("list")
def list_organizations(ctx: typer.Context) -> None:
    """One organization a line: id, name."""
    for organization in _with(ctx, lambda provisioner: provisioner.organizations()):
        typer.echo(f"{organization.id}\t{organization.name}")


@project_app.command("create")
def create_project(
    ctx: typer.Context,
    organization: str,
    name: str,
    id_: Annotated[str | None, typer.Option("--id", help="Default: random.")] = None,
) -> None:
    """Create a project of an organization and print its id."""
    owner = OrganizationId(parse_id(organization, "organization", "argument"))
    made = _with(ctx, lambda provisioner: provisioner.create_project(owner, name, _actor(), id_))
    typer.echo(made.id)


@project_app.command("list")
def list_projects(ctx: typer.Context, organization: Annotated[str | None, typer.Argument()] = None) -> None:
    """One project a line: id, organization, name."""
    owner = OrganizationId(organization) if organization else None
    for project in _with(ctx, lambda provisioner: provisioner.projects(owner)):
        typer.echo(f"{project.id}\t{project.organization}\t{project.name}")


@cluster_app.command("create")
def create_cluster(
    ctx: typer.Context,
    project: str,
    name: str,
    size: Size = None,
    vcpu: Vcpu = None,
    version: Annotated[str, typer.Option(help="The Milvus version.")] = "2.3.5",
    id_: Annotated[str | None, typer.Option("--id", help="Default: random.")] = None,
    wait: WaitSeconds = None,
) -> None:
    """Ask for a new cluster; prints the job."""
    from provisioner.local.install import check_version

    spec = parse_spec(size, vcpu, check_version(version, "option --version"))
    new = NewCluster(ProjectId(project), name, spec, ClusterId(id_) if id_ else None)
    _ask(ctx, lambda provisioner: provisioner.create_cluster(new, _actor()), wait)


@cluster_app.command("scale")
def scale_cluster(
    ctx: typer.Context, cluster: str, size: Size = None, vcpu: Vcpu = None, wait: WaitSeconds = None
) -> None:
    """Ask for another allocation; the Milvus version stays."""
    spec = parse_spec(size, vcpu, version="")
    _ask(ctx, lambda provisioner: provisioner.scale_cluster(ClusterId(cluster), spec, _actor()), wait)


@cluster_app.command("suspend")
def suspend_cluster(ctx: typer.Context, cluster: str, wait: WaitSeconds = None) -> None:
    """Stop the server and keep the data; gives its licence capacity back."""
    _ask(ctx, lambda provisioner: provisioner.suspend_cluster(ClusterId(cluster), _actor()), wait)


@cluster_app.command("resume")
def resume_cluster(ctx: typer.Context, cluster: str, wait: WaitSeconds = None) -> None:
    """Start a suspended or failed cluster again."""
    _ask(ctx, lambda provisioner: provisioner.resume_cluster(ClusterId(cluster), _actor()), wait)


@cluster_app.command("delete")
def delete_cluster(ctx: typer.Context, cluster: str, wait: WaitSeconds = None) -> None:
    """Remove the server and its data for good."""
    _ask(ctx, lambda provisioner: provisioner.delete_cluster(ClusterId(cluster), _actor()), wait)


@cluster_app.command("list")
def list_clusters(
    ctx: typer.Context, project: Annotated[str | None, typer.Argument()] = None, as_json: AsJson = False
) -> None:
    """One cluster a line: id, project, name, state, size, endpoint."""
    chosen = ProjectId(project) if project else None
    clusters = _with(ctx, lambda provisioner: provisioner.clusters(project=chosen))
    if as_json:
        typer.echo(json.dumps([_document(cluster) for cluster in clusters]))
        return
    for cluster in clusters:
        placement = cluster.placement
        fields = [cluster.id, placement.project, cluster.name, cluster.state, cluster.desired.size]
        typer.echo("\t".join([*fields, cluster.endpoint or "-"]))


@cluster_app.command("show")
def show_cluster(ctx: typer.Context, cluster: str, as_json: AsJson = False) -> None:
    """Everything known of a cluster: desired, observed, the operation under way, the reason of a failure."""
    document = _document(_with(ctx, lambda provisioner: provisioner.cluster(ClusterId(cluster))))
    if as_json:
        typer.echo(json.dumps(document))
        return
    for name, value in document.items():
        typer.echo(f"{name}: {'-' if value is None else value}")


def parse_spec(size: str | None, vcpu: str | None, version: str) -> ClusterSpec:
    """From the options: a catalogue size or the milli-vCPU of each component. Raises InvalidInput."""
    if (size is None) == (vcpu is None):
        found = "neither" if size is None else "both"
        raise InvalidInput.single("options", "--size, --vcpu", found, "exactly one of them")
    if size is not None:
        return sized(size, version, "option --size")
    pairs = [part.partition("=") for part in (vcpu or "").split(",")]
    if len(pairs) != len({name.strip() for name, _, _ in pairs}):
        raise InvalidInput.single("option --vcpu", "component", repr(vcpu), "each component once")
    content = {name.strip(): _whole(number.strip()) for name, _, number in pairs}
    return ClusterSpec(parse_allocation(content, "option --vcpu"), version)


def _whole(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else text


def _ask(ctx: typer.Context, ask: Callable[[Provisioner], Awaitable[Job]], wait: float | None) -> None:
    async def submit(provisioner: Provisioner) -> Job:
        job = await ask(provisioner)
        return await provisioner.wait(job.id, wait) if wait else job

    job = _with(ctx, submit)
    typer.echo(f"{job.id}\t{job.cluster}\t{job.operation}\t{job.state}")
    if job.state is JobState.FAILED:
        raise Refuse(f"{job.operation} of {job.cluster} failed: {job.reason}")


def _with(ctx: typer.Context, work: Callable[[Provisioner], Awaitable[T]]) -> T:
    wiring: Wiring = ctx.obj

    async def run() -> T:
        provisioner = provisioner_of(wiring)
        try:
            return await work(provisioner)
        finally:
            await provisioner.stop()

    return asyncio.run(run())


def _document(cluster: Cluster) -> dict[str, object]:
    document = asdict(cluster)
    placement = document.pop("placement")
    return {**placement, **document, "has_drifted": cluster.has_drifted}


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):
        return "cli"
