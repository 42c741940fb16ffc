"""Adapters of the `Capacity` port without billing: none at all, and one figure in memory."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.ids import JobId, OrganizationId
from provisioner.errors import OverCapacity


class Unlimited:
    """Admits everything; for a vendor who does not sell by capacity."""

    def reserve(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu: int, job: JobId
    ) -> None:
        """Admit."""

    def release(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu_remaining: int
    ) -> None:
        """Nothing is held."""


class MemoryCapacity:
    """`milli_vcpu` for each organization, held in memory: not undone by a rollback, so for tests alone."""

    def __init__(self, milli_vcpu: int) -> None:
        self._milli_vcpu = milli_vcpu
        self.held: dict[tuple[OrganizationId, str], int] = {}

    def reserve(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu: int, job: JobId
    ) -> None:
        """Raises OverCapacity."""
        key = (organization, subject)
        others = sum(held for (owner, name), held in self.held.items() if owner == organization and name != subject)
        if others + milli_vcpu > self._milli_vcpu:
            raise over_capacity(organization, others + milli_vcpu, self._milli_vcpu)
        self.held[key] = milli_vcpu

    def release(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu_remaining: int
    ) -> None:
        """Lower what is held."""
        self.held[organization, subject] = milli_vcpu_remaining


def over_capacity(organization: OrganizationId, needed: int, licensed: int) -> OverCapacity:
    """The error with both figures in vCPU."""
    return OverCapacity(
        f"organization {organization} would hold {needed / 1000:g} vCPU of {licensed / 1000:g} licensed: "
        "buy capacity, or scale another cluster down first"
    )
