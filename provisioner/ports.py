"""What the provisioner needs from outside: a place where clusters run, licence capacity, a durable engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kernel.ids import ClusterId, JobId, OrganizationId, ProjectId
from provisioner.lifecycle import State
from provisioner.spec import Allocation, ClusterSpec

if TYPE_CHECKING:  # the exporter, in the customer's VPC, has no SQLAlchemy
    import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a cluster belongs. Its parts are the deterministic name of everything a provider makes for it."""

    organization: OrganizationId
    project: ProjectId
    cluster: ClusterId


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a cluster, now, from outside of it.

    `present`: anything of it is left, if only its files. `running`: its server is alive. `ready`: it answers
    requests and its metrics. `allocation`, `version`: of the live server. Addresses are `host:port`.
    """

    present: bool
    running: bool = False
    ready: bool = False
    allocation: Allocation | None = None
    version: str | None = None
    endpoint: str | None = None
    metrics_address: str | None = None
    detail: str = ""

    def shows(self, spec: ClusterSpec) -> bool:
        """Whether this is a ready server of that spec."""
        return self.ready and self.allocation == spec.allocation and self.version == spec.version


class Provider(Protocol):
    """Runs clusters. Every call may be repeated, after a crash too, and converges on the same result.

    All raise kernel.errors.Retry for a passing fault and Refuse for one that repeating does not cure.
    """

    async def start(self, placement: Placement, spec: ClusterSpec) -> None:
        """Have a server of `spec` started. One of that spec that runs is left alone, another is replaced.

        Returns before the server is ready; `observe` tells.
        """

    async def observe(self, placement: Placement) -> Observation:
        """Look at the cluster. Changes nothing."""

    async def stop(self, placement: Placement) -> None:
        """Have no server running; keep the data. Returns when the server is gone."""

    async def remove(self, placement: Placement) -> None:
        """Stop, and remove the data for good."""

    async def announce(self, placement: Placement, state: State) -> None:
        """Tell the cluster's side the lifecycle state, for its exporter."""


class Capacity(Protocol):
    """Licensed vCPU of an organization. Both calls act inside the caller's transaction.

    A subject (a cluster) has one reservation; a call sets it, it does not add.
    """

    def reserve(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu: int, job: JobId
    ) -> None:
        """Hold `milli_vcpu` for `subject` in all. Raises a Refuse when the licence does not cover it."""

    def release(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu_remaining: int
    ) -> None:
        """Lower what `subject` holds to `milli_vcpu_remaining`; 0 gives all back. Never refuses."""


class Audit(Protocol):
    """The part of `kernel.audit.AuditLog` that is used: append inside the caller's transaction."""

    def append(
        self, connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, Any]
    ) -> Any:
        """Add one event to the chain."""


class Steps(Protocol):
    """How a workflow makes its effects durable."""

    async def step(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """The text that `work` answered: run now, or recorded by an earlier run of this workflow.

        A crash inside `work` runs it again, so it must be repeatable. `work` answers its failures as text.
        """


Workflow = Callable[[JobId, Steps], Awaitable[None]]


class Engine(Protocol):
    """Runs a workflow for each job, again after a crash, until it has returned."""

    def prepare(self) -> None:
        """Have what `enqueue` needs. Blocking, idempotent; called outside of any transaction."""

    def enqueue(self, connection: sa.Connection, job: JobId) -> None:
        """Start the workflow of `job` when, and only if, the caller's transaction commits."""

    async def start(self, workflow: Workflow) -> None:
        """Run what is enqueued, beginning with what a dead process left unfinished."""

    async def stop(self) -> None:
        """Run nothing more. What is unfinished stays so, for the next `start`. Idempotent."""
