"""Tables of the provisioner. A cluster's row keeps desired and observed apart; a job is one operation on it."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.database import metadata

organizations = sa.Table(
    "provisioner_organizations",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("name", name="uq_provisioner_organizations_name"),
)

projects = sa.Table(
    "provisioner_projects",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("organization", sa.String(63), sa.ForeignKey("provisioner_organizations.id"), nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("organization", "name", name="uq_provisioner_projects_organization_name"),
)

clusters = sa.Table(
    "provisioner_clusters",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("organization", sa.String(63), sa.ForeignKey("provisioner_organizations.id"), nullable=False),
    sa.Column("project", sa.String(63), sa.ForeignKey("provisioner_projects.id"), nullable=False),
    sa.Column("name", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("row_version", sa.BigInteger, nullable=False),  # grows with every change of the row
    sa.Column("generation", sa.BigInteger, nullable=False),  # grows with every change of what is desired
    sa.Column("desired_spec", sa.Text, nullable=False),
    sa.Column("observed_spec", sa.Text),  # what was last seen to run; null while nothing runs
    sa.Column("observed_generation", sa.BigInteger, nullable=False),
    sa.Column("observed_ms", sa.BigInteger),
    sa.Column("endpoint", sa.String(255)),
    sa.Column("reason", sa.Text),  # of FAILED, or of the last operation that was taken back
    sa.Column("job", sa.String(63)),  # the operation that runs; null when none does
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
)

# A name is free again once its cluster is deleted.
sa.Index(
    "uq_provisioner_clusters_project_name",
    clusters.c.project,
    clusters.c.name,
    unique=True,
    sqlite_where=sa.text("state <> 'DELETED'"),
    postgresql_where=sa.text("state <> 'DELETED'"),
)

jobs = sa.Table(
    "provisioner_jobs",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("cluster", sa.String(63), sa.ForeignKey("provisioner_clusters.id"), nullable=False),
    sa.Column("operation", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.String(32), nullable=False),
    sa.Column("former_state", sa.String(16)),  # null for create
    sa.Column("former_spec", sa.Text),  # null for create
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("started_ms", sa.BigInteger),
    sa.Column("finished_ms", sa.BigInteger),
)
sa.Index("ix_provisioner_jobs_cluster", jobs.c.cluster)
sa.Index("ix_provisioner_jobs_state", jobs.c.state)

# What a cluster was declared to be, and since when: append-only. Its licensed milli-vCPU lay between the two
# figures, which differ while an operation runs.
transitions = sa.Table(
    "provisioner_transitions",
    metadata,
    sa.Column("cluster", sa.String(63), sa.ForeignKey("provisioner_clusters.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),  # from 1
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("least_milli_vcpu", sa.BigInteger, nullable=False),
    sa.Column("most_milli_vcpu", sa.BigInteger, nullable=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
)
