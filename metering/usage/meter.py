"""The licence meter: which series are read, and which of their components a licence counts.

Rule: licence usage is the vCPU of query nodes, Milvus components and index nodes; dependencies are free
(Zilliz BYOC documentation, license usage page).
"""

from __future__ import annotations

from dataclasses import dataclass

from kernel.ids import ClusterId, ProjectId
from kernel.quantity import MILLI_VCPU


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """What a licence counts: a component of a cluster, by stable ids, whatever labels its series carry."""

    project: ProjectId
    cluster: ClusterId
    name: str


@dataclass(frozen=True, slots=True)
class GaugeMeter:
    """A gauge that is scaled to integers and integrated over time as a step function."""

    name: str
    metric: str
    scale: int  # integer units in one of the gauge's unit
    components: frozenset[str]


LICENCE_METER = GaugeMeter(
    name="licence-vcpu",
    metric="byoc_component_allocated_vcpu",
    scale=MILLI_VCPU.scale,
    components=frozenset({"query", "milvus", "index"}),
)
TARGET_UP = "up"
