"""Tables of provisioner."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of provisioner."""
    op.create_table(
        "provisioner_organizations",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_provisioner_organizations"),
        sa.UniqueConstraint("name", name="uq_provisioner_organizations_name"),
    )
    op.create_table(
        "provisioner_projects",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("organization", sa.String(63), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_provisioner_projects"),
        _foreign_key("projects", "organization", "organizations"),
        sa.UniqueConstraint("organization", "name", name="uq_provisioner_projects_organization_name"),
    )
    _create_clusters()
    _create_jobs()


def _create_clusters() -> None:
    op.create_table(
        "provisioner_clusters",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("organization", sa.String(63), nullable=False),
        sa.Column("project", sa.String(63), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("row_version", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("desired_spec", sa.Text, nullable=False),
        sa.Column("observed_spec", sa.Text),
        sa.Column("observed_generation", sa.BigInteger, nullable=False),
        sa.Column("observed_ms", sa.BigInteger),
        sa.Column("endpoint", sa.String(255)),
        sa.Column("reason", sa.Text),
        sa.Column("job", sa.String(63)),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_provisioner_clusters"),
        _foreign_key("clusters", "organization", "organizations"),
        _foreign_key("clusters", "project", "projects"),
    )
    op.create_index(
        "uq_provisioner_clusters_project_name",
        "provisioner_clusters",
        ["project", "name"],
        unique=True,
        sqlite_where=sa.text("state <> 'DELETED'"),
        postgresql_where=sa.text("state <> 'DELETED'"),
    )


def _create_jobs() -> None:
    op.create_table(
        "provisioner_jobs",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("cluster", sa.String(63), nullable=False),
        sa.Column("operation", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("former_state", sa.String(16)),
        sa.Column("former_spec", sa.Text),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("finished_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_provisioner_jobs"),
        _foreign_key("jobs", "cluster", "clusters"),
    )
    op.create_index("ix_provisioner_jobs_cluster", "provisioner_jobs", ["cluster"])
    op.create_index("ix_provisioner_jobs_state", "provisioner_jobs", ["state"])


def _foreign_key(table: str, column: str, referred: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"provisioner_{referred}.id"],
        name=f"fk_provisioner_{table}_{column}_provisioner_{referred}",
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("jobs", "clusters", "projects", "organizations"):
        op.drop_table(f"provisioner_{table}")
