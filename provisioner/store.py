"""Reading and writing the provisioner's rows. Plain functions of a connection, for use inside a transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kernel.ids import ClusterId, JobId, OrganizationId, ProjectId
from provisioner.errors import NameTaken, StaleGeneration, Unknown
from provisioner.lifecycle import State
from provisioner.models import clusters, jobs, organizations, projects
from provisioner.records import Cluster, Job, JobState, Organization, Project


def insert_organization(connection: sa.Connection, organization: Organization) -> None:
    """Raises NameTaken."""
    values = {"id": organization.id, "name": organization.name, "created_ms": organization.created_ms}
    _insert(connection, organizations, values, f"an organization {organization.name!r}")


def insert_project(connection: sa.Connection, project: Project) -> None:
    """Raises NameTaken."""
    values = {
        "id": project.id,
        "organization": project.organization,
        "name": project.name,
        "created_ms": project.created_ms,
    }
    _insert(connection, projects, values, f"a project {project.name!r} in {project.organization}")


def insert_cluster(connection: sa.Connection, cluster: Cluster) -> None:
    """Raises NameTaken."""
    values = {
        "id": cluster.id,
        "organization": cluster.placement.organization,
        "project": cluster.placement.project,
        "name": cluster.name,
        "state": cluster.state.value,
        "row_version": cluster.row_version,
        "generation": cluster.generation,
        "desired_spec": cluster.desired.render(),
        "observed_generation": cluster.observed_generation,
        "job": cluster.job,
        "created_ms": cluster.created_ms,
        "changed_ms": cluster.changed_ms,
    }
    _insert(connection, clusters, values, f"a cluster {cluster.name!r} in {cluster.placement.project}")


def insert_job(connection: sa.Connection, job: Job) -> None:
    connection.execute(
        jobs.insert().values(
            id=job.id,
            cluster=job.cluster,
            operation=job.operation.value,
            state=job.state.value,
            stage=job.stage,
            former_state=job.former_state.value if job.former_state else None,
            former_spec=job.former_spec.render() if job.former_spec else None,
            spec=job.spec.render(),
            actor=job.actor,
            created_ms=job.created_ms,
        )
    )


def _insert(connection: sa.Connection, table: sa.Table, values: dict[str, Any], what: str) -> None:
    try:
        connection.execute(table.insert().values(**values))
    except IntegrityError as error:
        raise NameTaken(f"there is {what} already: choose another name or id") from error


def load_organization(connection: sa.Connection, organization: OrganizationId) -> Organization:
    """Raises Unknown."""
    row = _one(connection, organizations, organization, "organization")
    return Organization(OrganizationId(row.id), row.name, row.created_ms)


def load_project(connection: sa.Connection, project: ProjectId) -> Project:
    """Raises Unknown."""
    row = _one(connection, projects, project, "project")
    return Project(ProjectId(row.id), OrganizationId(row.organization), row.name, row.created_ms)


def load_cluster(connection: sa.Connection, cluster: ClusterId, *, lock: bool = False) -> Cluster:
    """`lock` holds the row to the end of the transaction. Raises Unknown."""
    return Cluster.of(_one(connection, clusters, cluster, "cluster", lock=lock))


def load_job(connection: sa.Connection, job: JobId) -> Job:
    """Raises Unknown."""
    return Job.of(_one(connection, jobs, job, "job"))


def _one(connection: sa.Connection, table: sa.Table, key: str, kind: str, *, lock: bool = False) -> sa.Row[Any]:
    query = sa.select(table).where(table.c.id == key)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        hint = "" if kind == "job" else f": `byoc {kind} list` shows what there is"
        raise Unknown(f"there is no {kind} {key!r}{hint}")
    return row


def list_organizations(connection: sa.Connection) -> list[Organization]:
    rows = connection.execute(sa.select(organizations).order_by(organizations.c.name))
    return [Organization(OrganizationId(row.id), row.name, row.created_ms) for row in rows]


def list_projects(connection: sa.Connection, organization: OrganizationId | None) -> list[Project]:
    query = sa.select(projects).order_by(projects.c.organization, projects.c.name)
    if organization is not None:
        query = query.where(projects.c.organization == organization)
    return [
        Project(ProjectId(row.id), OrganizationId(row.organization), row.name, row.created_ms)
        for row in connection.execute(query)
    ]


def list_clusters(
    connection: sa.Connection, organization: OrganizationId | None, project: ProjectId | None, *, deleted: bool
) -> list[Cluster]:
    query = sa.select(clusters).order_by(clusters.c.created_ms, clusters.c.id)
    if organization is not None:
        query = query.where(clusters.c.organization == organization)
    if project is not None:
        query = query.where(clusters.c.project == project)
    if not deleted:
        query = query.where(clusters.c.state != State.DELETED.value)
    return [Cluster.of(row) for row in connection.execute(query)]


def unfinished_jobs(connection: sa.Connection) -> list[Job]:
    """Jobs that are queued or run, oldest first."""
    open_states = [JobState.QUEUED.value, JobState.RUNNING.value]
    rows = connection.execute(
        sa.select(jobs).where(jobs.c.state.in_(open_states)).order_by(jobs.c.created_ms, jobs.c.id)
    )
    return [Job.of(row) for row in rows]


def change_cluster(connection: sa.Connection, cluster: Cluster, **values: Any) -> None:
    """Update the row if it is still the one that was read. Raises StaleGeneration."""
    changed = connection.execute(
        clusters.update()
        .where(clusters.c.id == cluster.id, clusters.c.row_version == cluster.row_version)
        .values(row_version=cluster.row_version + 1, **values)
    )
    if changed.rowcount != 1:
        raise StaleGeneration(f"cluster {cluster.id} was changed by another operation: look at it again")


def change_job(connection: sa.Connection, job: JobId, **values: Any) -> None:
    connection.execute(jobs.update().where(jobs.c.id == job).values(**values))
