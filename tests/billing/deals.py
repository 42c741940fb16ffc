"""Contracts, licences and usage for tests, as short as they can be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

import sqlalchemy as sa

from billing.book import ContractBook
from billing.models import entries, postings
from billing.prepaid import Prepaid
from billing.receivables import Receivables
from billing.run import InvoiceRun
from kernel.audit import AuditLog
from kernel.clock import VirtualClock
from kernel.database import Database
from kernel.errors import NotFound
from kernel.ids import OrganizationId
from kernel.steps import StepFunction
from kernel.window import Window, hours_in
from metering.usage.model import MeterPart, MeterRequest, MeterUsage, UsageMonth
from metering.usage.rows import UsageRow, UsageRows, digest_of

ACME = OrganizationId("acme")
NOVEMBER_3 = datetime(2026, 11, 3, 9, 30, tzinfo=UTC)
HOUR_MS = 3_600_000


def contract_text(
    organization: str = "acme",
    *,
    contract: str | None = None,
    term: tuple[str, str] = ("2026-10-01", "2027-10-01"),
    vcpu: int = 16,
    on_demand: bool = True,
    more: str = "",
) -> str:
    """A contract at 900.00 USD for a vCPU-year; `more` is YAML appended at the top level."""
    return (
        f"contract: {contract or organization + '-2026'}\n"
        f"organization: {organization}\n"
        "legal_entity: {id: example-eu, name: Example Europe GmbH, address: [Street 1, Berlin], tax_id: DE1}\n"
        f"customer: {{name: {organization.title()} Ltd, address: [High Street 2, London]}}\n"
        "currency: USD\n"
        f"term: {{start: {term[0]}, end: {term[1]}}}\n"
        f"commitment:\n  - {{start: {term[0]}, vcpu: {vcpu}}}\n"
        'price_per_vcpu_year: "900.00"\n'
        "grace_hours: 48\n"
        f"on_demand: {'true' if on_demand else 'false'}\n"
        f"{more}"
    )


def licence_text(
    organization: str = "acme",
    *,
    valid: tuple[str, str] = ("2026-10-01", "2027-10-01"),
    vcpu: int = 16,
    more: str = "",
) -> str:
    """A licence under the contract of `contract_text`."""
    return (
        f"licence: {organization}-licence\n"
        f"organization: {organization}\n"
        f"contract: {organization}-2026\n"
        f"valid: {{start: {valid[0]}, end: {valid[1]}}}\n"
        f"capacity:\n  - {{start: {valid[0]}, vcpu: {vcpu}}}\n"
        f"{more}"
    )


@dataclass
class RecordedUsage:
    """A usage reader over levels of milli-vCPU that were given, not measured."""

    levels: list[tuple[int, int]] = field(default_factory=list)  # (ms, milli-vCPU) of the organization's sum
    missing_ms: int = 0
    sealed: bool = True
    rows: tuple[UsageRow, ...] = ()
    meters: dict[str, dict[str, dict[int, Fraction]]] = field(default_factory=dict)  # meter, group, hour ms
    units: dict[str, str] = field(default_factory=dict)  # by meter, else "call"

    def metered(self, requests: Sequence[MeterRequest]) -> list[MeterUsage]:
        return [self.meter(one.organization, one.meter, one.window, one.group_by) for one in requests]

    def meter(self, organization: OrganizationId, meter: str, window: Window, group_by: str | None) -> MeterUsage:
        if meter not in self.meters:
            raise NotFound(f"there is no meter {meter}")
        groups: dict[str, list[Fraction]] = {}
        hours = list(hours_in(window))
        for group, by_hour in self.meters[meter].items():
            hourly = groups.setdefault(group if group_by else "", [Fraction(0)] * len(hours))
            for index, hour in enumerate(hours):
                hourly[index] += by_hour.get(hour.start_ms, Fraction(0))
        parts = [
            MeterPart(name, sum(hourly, Fraction(0)), tuple(hourly)) for name, hourly in sorted(groups.items())
        ]
        digest = digest_of(())
        return MeterUsage(
            organization,
            meter,
            "tests 1",
            self.units.get(meter, "call"),
            window,
            tuple(parts),
            (),
            window.length_ms,
            0,
            0,
            digest,
            self.sealed,
        )

    def revised_since(self, organization: OrganizationId, window: Window, moment_ms: int) -> bool:
        return True

    def month(self, organization: OrganizationId, window: Window) -> UsageMonth:
        return UsageMonth(
            organization=organization,
            window=window,
            rows=UsageRows.of(organization, self.rows),
            step=StepFunction.of(self.levels).within(window),
            observed_ms=window.length_ms - self.missing_ms,
            missing_ms=self.missing_ms,
            revision_digest=digest_of(self.rows),
            sealed=self.sealed,
        )


def ten_vcpu_above_for_an_hour(start: Window) -> list[tuple[int, int]]:
    """600 vCPU-minutes above a commitment of 16 vCPU, in the second hour of `start`."""
    first = start.start_ms
    return [(first, 16_000), (first + HOUR_MS, 26_000), (first + 2 * HOUR_MS, 16_000)]


@dataclass
class Office:
    """Billing on one database."""

    database: Database
    usage: RecordedUsage = field(default_factory=RecordedUsage)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOVEMBER_3))

    @property
    def audit(self) -> AuditLog:
        return AuditLog(self.database, self.clock)

    @property
    def book(self) -> ContractBook:
        return ContractBook(self.database, self.clock, self.audit)

    @property
    def receivables(self) -> Receivables:
        return Receivables(self.database, self.clock, self.audit)

    @property
    def prepaid(self) -> Prepaid:
        return Prepaid(self.database, self.clock, self.audit)

    def balance(self) -> int:
        """The sum of all entries, those of documents and those that followed: zero."""
        sums = [sa.select(sa.func.coalesce(sa.func.sum(table.c.minor_units), 0)) for table in (postings, entries)]
        return self.database.transact(lambda connection: sum(int(connection.execute(q).scalar_one()) for q in sums))

    def account(self, name: str) -> int:
        """What the entries make of an account, in minor units."""

        def read(connection: sa.Connection) -> int:
            tables = (postings, entries)
            sums = (sa.select(sa.func.sum(table.c.minor_units)).where(table.c.account == name) for table in tables)
            return sum(int(connection.execute(query).scalar_one() or 0) for query in sums)

        return self.database.transact(read)

    @property
    def run(self) -> InvoiceRun:
        return InvoiceRun(self.database, self.usage, self.clock, self.audit)

    def postings(self) -> list[tuple[str, str, int]]:
        """(invoice number, account, minor units) of the whole ledger."""
        query = sa.select(postings.c.number, postings.c.account, postings.c.minor_units)

        def read(connection: sa.Connection) -> list[tuple[str, str, int]]:
            return [tuple(row) for row in connection.execute(query.order_by(*postings.primary_key))]

        return self.database.transact(read)
