"""Licence gauges: what alert rules about licences read. Appended to the live topic under an internal identity."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from billing.licence import Licence, capacity_of, covered_until_ms
from billing.models import reservations
from billing.store import load_licences
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Retry
from kernel.ids import VENDOR_PROJECT as PROJECT
from kernel.ids import CollectorId, OrganizationId, Tenant
from kernel.log import LogWriter, Record
from kernel.logs import logger
from metering.record import BatchHeader, LabelSet, Lane, encode_record, make_batch

COLLECTOR = CollectorId("vendor-billing")
_log = logger("billing")


@dataclass(frozen=True, slots=True)
class LicenceState:
    """An organization's licences at one moment."""

    organization: OrganizationId
    capacity_milli_vcpu: int
    held_milli_vcpu: int
    remaining_ms: int  # negative since when they expired

    @property
    def used_ratio(self) -> float:
        """Held over capacity; infinite when something is held without capacity."""
        if self.capacity_milli_vcpu:
            return self.held_milli_vcpu / self.capacity_milli_vcpu
        return math.inf if self.held_milli_vcpu else 0.0


@dataclass(frozen=True, slots=True)
class LicenceGauges:
    """Appends the gauges of every organization that has or had a licence, every `interval_seconds`."""

    database: Database
    writer: LogWriter
    clock: Clock
    interval_seconds: float = 15.0

    async def run(self) -> None:
        """Until cancelled. A passing fault of the database or the log skips a round, and is logged."""
        while True:
            try:
                await self.publish()
            except Retry as error:
                _log.warning("licence_gauges_skipped", error=str(error))
            await self.clock.sleep(self.interval_seconds)

    async def publish(self) -> int:
        """One round; returns how many organizations. Raises Retry."""
        now_ms = self.clock.now_ms()
        states = await self.database.run(lambda connection: read_states(connection, now_ms))
        if states:
            await self.writer.append(Lane.BILLING.topic, [gauge_record(state, now_ms) for state in states])
        return len(states)


def read_states(connection: sa.Connection, now_ms: int) -> list[LicenceState]:
    """The state of every organization with a licence, valid or not, by organization."""
    grouped: dict[OrganizationId, list[Licence]] = {}
    for licence in load_licences(connection):
        grouped.setdefault(OrganizationId(licence.organization), []).append(licence)
    held_query = sa.select(reservations.c.organization, sa.func.sum(reservations.c.milli_vcpu)).group_by(
        reservations.c.organization
    )
    held = {organization: int(milli_vcpu) for organization, milli_vcpu in connection.execute(held_query)}
    return [
        LicenceState(
            organization,
            capacity_of(licences).at(now_ms),
            held.get(organization, 0),
            covered_until_ms(licences, now_ms) - now_ms,
        )
        for organization, licences in sorted(grouped.items())
    ]


def gauge_record(state: LicenceState, now_ms: int) -> Record:
    """The log record of one organization's gauges at `now_ms`."""
    rows = [(labels, now_ms, value) for labels, value in _gauges(state)]
    content = json.dumps([[*labels, moment, repr(value)] for labels, moment, value in rows])
    header = BatchHeader(
        tenant=Tenant(state.organization, PROJECT),
        collector=COLLECTOR,
        lane=Lane.BILLING,
        received_ms=now_ms,
        sha256=sha256(content.encode()).hexdigest(),
    )
    return encode_record(header, make_batch(rows))


def _gauges(state: LicenceState) -> Iterator[tuple[LabelSet, float]]:
    values = {
        "byoc_licence_capacity_vcpu": state.capacity_milli_vcpu / 1000,
        "byoc_licence_used_vcpu": state.held_milli_vcpu / 1000,
        "byoc_licence_used_ratio": state.used_ratio,
        "byoc_licence_remaining_seconds": state.remaining_ms / 1000,
    }
    for name, value in values.items():
        yield (("__name__", name), ("organization", state.organization), ("project", PROJECT)), value
