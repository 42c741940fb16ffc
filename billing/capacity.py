"""Licence capacity: what is handed out, reserved in the caller's transaction so that it can't be oversold.

Structurally the provisioner's `Capacity` port. Rules: a licence must be valid for anything to grow; what shrinks is
always allowed; above the licensed capacity only a contract with on-demand lets it grow.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from billing.errors import CapacityRefused
from billing.licence import Licence, capacity_of, counting_at
from billing.models import reservations
from billing.rating.fact import render_vcpu
from billing.store import load_contracts, load_licences, lock_organization
from kernel.clock import Clock
from kernel.errors import truncate
from kernel.ids import JobId, OrganizationId


@dataclass(frozen=True, slots=True)
class LicenceCapacity:
    """Every method runs in the caller's transaction and blocks. Reservations of one organization go one by one."""

    clock: Clock

    def reserve(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu: int, job: JobId
    ) -> None:
        """Let `subject` (a cluster) have `milli_vcpu` in all, what it holds already included.

        A smaller amount than it holds is always allowed and changes nothing yet: what is given up counts as held
        until `release` says that it is gone. Raises CapacityRefused; then nothing is reserved.
        """
        if milli_vcpu < 0:
            raise ValueError(f"{milli_vcpu} milli-vCPU can't be reserved")
        lock_organization(connection, organization)
        own = _held_by(connection, organization, subject)
        if milli_vcpu <= own:
            return
        held = self.held(connection, organization)
        self._check(connection, organization, subject, held - own, milli_vcpu)
        key = {"organization": organization, "subject": subject}
        connection.execute(sa.delete(reservations).filter_by(**key))
        values = {"milli_vcpu": milli_vcpu, "job": job, "reserved_ms": self.clock.now_ms()}
        connection.execute(reservations.insert().values(**key, **values))

    def release(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, milli_vcpu_remaining: int
    ) -> None:
        """`subject` now uses `milli_vcpu_remaining` and no more; zero ends its reservation. Idempotent.

        Never raises what it holds: more must be reserved.
        """
        lock_organization(connection, organization)
        key = {"organization": organization, "subject": subject}
        if milli_vcpu_remaining <= 0:
            connection.execute(sa.delete(reservations).filter_by(**key))
            return
        connection.execute(
            sa.update(reservations)
            .filter_by(**key)
            .where(reservations.c.milli_vcpu > milli_vcpu_remaining)
            .values(milli_vcpu=milli_vcpu_remaining)
        )

    def held(self, connection: sa.Connection, organization: OrganizationId) -> int:
        """The milli-vCPU that all subjects of the organization hold."""
        query = sa.select(sa.func.coalesce(sa.func.sum(reservations.c.milli_vcpu), 0))
        return int(connection.execute(query.filter_by(organization=organization)).scalar_one())

    def _check(
        self, connection: sa.Connection, organization: OrganizationId, subject: str, others: int, wanted: int
    ) -> None:
        now_ms = self.clock.now_ms()
        licences = load_licences(connection, organization)
        valid = counting_at(licences, now_ms)
        if not valid:
            raise CapacityRefused(f"{organization}: {_why_none(licences, now_ms)}, so nothing may grow")
        capacity = capacity_of(licences).at(now_ms)
        if others + wanted <= capacity or _has_on_demand(connection, organization, valid):
            return
        raise CapacityRefused(
            f"{organization}: {truncate(subject)} asks for {render_vcpu(wanted)} vCPU; of {render_vcpu(capacity)} "
            f"licensed, {render_vcpu(others)} are held by others, so {render_vcpu(max(0, capacity - others))} are "
            "left, and the contract has no on-demand. Scale something down or add to the licence"
        )


def _held_by(connection: sa.Connection, organization: OrganizationId, subject: str) -> int:
    query = sa.select(reservations.c.milli_vcpu).filter_by(organization=organization, subject=subject)
    return int(connection.execute(query).scalar() or 0)


def _why_none(licences: list[Licence], now_ms: int) -> str:
    if not licences:
        return "there is no licence; add one with `byoc licence add FILE`"
    begun = [licence for licence in licences if licence.window.start_ms <= now_ms]
    if begun:
        latest = max(begun, key=lambda licence: licence.window.end_ms)
        return f"licence {latest.licence} expired on {latest.valid.end}; renew it"
    first = min(licences, key=lambda licence: licence.window.start_ms)
    return f"licence {first.licence} is not valid before {first.valid.start}"


def _has_on_demand(connection: sa.Connection, organization: OrganizationId, valid: list[Licence]) -> bool:
    named = {licence.contract for licence in valid}
    agreed = load_contracts(connection, organization)
    return any(known.contract.on_demand for known in agreed if known.contract.contract in named)
