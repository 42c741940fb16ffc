"""What clusters were declared to be over time: written with each change of state, read to compare usage with it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from kernel.ids import ClusterId, OrganizationId, ProjectId
from provisioner.lifecycle import State
from provisioner.models import clusters, transitions
from provisioner.ports import Placement


@dataclass(frozen=True, slots=True)
class Transition:
    """Since `at_ms` (the vendor's clock) the cluster is in `state`, its licensed components at `least` to `most`.

    They are equal unless an operation is under way or the server could not be read.
    """

    placement: Placement
    state: State
    least_milli_vcpu: int
    most_milli_vcpu: int
    at_ms: int


def insert_transition(connection: sa.Connection, transition: Transition) -> None:
    """The next one of its cluster, whose row the caller has locked or just written."""
    cluster = transition.placement.cluster
    last = sa.select(sa.func.coalesce(sa.func.max(transitions.c.position), 0))
    position = int(connection.execute(last.where(transitions.c.cluster == cluster)).scalar_one()) + 1
    connection.execute(
        transitions.insert().values(
            cluster=cluster,
            position=position,
            state=transition.state.value,
            least_milli_vcpu=transition.least_milli_vcpu,
            most_milli_vcpu=transition.most_milli_vcpu,
            at_ms=transition.at_ms,
        )
    )


def list_transitions(connection: sa.Connection, organization: OrganizationId) -> list[Transition]:
    """Of every cluster that the organization has or had; by cluster, in order."""
    query = (
        sa.select(transitions, clusters.c.project)
        .join(clusters, clusters.c.id == transitions.c.cluster)
        .where(clusters.c.organization == organization)
        .order_by(transitions.c.cluster, transitions.c.position)
    )
    return [
        Transition(
            Placement(organization, ProjectId(row.project), ClusterId(row.cluster)),
            State(row.state),
            row.least_milli_vcpu,
            row.most_milli_vcpu,
            row.at_ms,
        )
        for row in connection.execute(query)
    ]
