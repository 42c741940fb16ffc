"""Licence gauges: what alert rules about licences and contracts read.

Appended to the live topic under an internal identity.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from billing.contract import Contract
from billing.licence import Licence, capacity_of, covered_until_ms
from billing.models import reservations
from billing.store import load_contracts, load_licences
from billing.terms_left import TermLeft, terms_left
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Retry
from kernel.ids import VENDOR_PROJECT as PROJECT
from kernel.ids import CollectorId, OrganizationId, Tenant
from kernel.log import LogWriter, Record
from kernel.logs import logger
from metering.record import BatchHeader, LabelSet, Lane, encode_record, make_batch

COLLECTOR = CollectorId("vendor-billing")
Gauge = tuple[LabelSet, float]
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
    """Appends the gauges of every organization with a licence or a contract, every `interval_seconds`."""

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
        found = await self.database.run(lambda connection: read_gauges(connection, now_ms))
        if found:
            records = [gauge_record(owner, gauges, now_ms) for owner, gauges in sorted(found.items())]
            await self.writer.append(Lane.BILLING.topic, records)
        return len(found)


def read_gauges(connection: sa.Connection, now_ms: int) -> dict[OrganizationId, list[Gauge]]:
    """What is told of every organization with a licence, valid or not, or a contract that ended lately or will."""
    found = {state.organization: list(_of_licences(state)) for state in read_states(connection, now_ms)}
    contracts: dict[OrganizationId, list[Contract]] = {}
    for agreed in load_contracts(connection):
        contracts.setdefault(OrganizationId(agreed.contract.organization), []).append(agreed.contract)
    for owner, agreed_contracts in contracts.items():
        of_terms = [_of_term(owner, term) for term in terms_left(agreed_contracts, now_ms)]
        if of_terms:
            found.setdefault(owner, []).extend(of_terms)
    return found


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


def gauge_record(organization: OrganizationId, gauges: Sequence[Gauge], now_ms: int) -> Record:
    """The log record of one organization's gauges at `now_ms`."""
    rows = [(labels, now_ms, value) for labels, value in gauges]
    content = json.dumps([[*labels, moment, repr(value)] for labels, moment, value in rows])
    header = BatchHeader(
        tenant=Tenant(organization, PROJECT),
        collector=COLLECTOR,
        lane=Lane.BILLING,
        received_ms=now_ms,
        sha256=sha256(content.encode()).hexdigest(),
    )
    return encode_record(header, make_batch(rows))


def _of_licences(state: LicenceState) -> Iterator[Gauge]:
    values = {
        "byoc_licence_capacity_vcpu": state.capacity_milli_vcpu / 1000,
        "byoc_licence_used_vcpu": state.held_milli_vcpu / 1000,
        "byoc_licence_used_ratio": state.used_ratio,
        "byoc_licence_remaining_seconds": state.remaining_ms / 1000,
    }
    for name, value in values.items():
        yield (("__name__", name), ("organization", state.organization), ("project", PROJECT)), value


def _of_term(owner: OrganizationId, term: TermLeft) -> Gauge:
    name = ("__name__", "byoc_contract_remaining_seconds")
    labels = (name, ("contract", term.contract), ("organization", owner), ("project", PROJECT))
    return labels, term.remaining_ms / 1000
