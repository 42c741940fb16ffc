"""The provisioner's transitions in the words of reconciliation: neither component knows the other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from metering.usage.reconciliation import DeclaredCluster, Level
from provisioner.api import State, Transition


def declared_clusters(transitions: Iterable[Transition]) -> list[DeclaredCluster]:
    """A timeline for each cluster, from transitions by cluster and in order.

    A record that does not begin with CREATING was begun after the cluster was: nothing is known of the time before.
    """
    found = []
    for placement, of_cluster in groupby(transitions, key=lambda one: one.placement):
        kept = list(of_cluster)
        levels = tuple(Level(one.at_ms, one.least_milli_vcpu, one.most_milli_vcpu) for one in kept)
        known_from_ms = 0 if kept[0].state is State.CREATING else kept[0].at_ms
        found.append(DeclaredCluster(placement.project, placement.cluster, levels, known_from_ms))
    return found
