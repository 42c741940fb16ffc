"""Prepaid credits in the database: grants that were bought, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from billing.models import draws, grants
from billing.pricing.credits import Draw, Grant, after, draw
from billing.store import lock_organization
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import Conflict, InvalidInput
from kernel.ids import OrganizationId
from kernel.money import Currency, Money, minor_units_of, money_of_minor, refuse_parts


@dataclass(frozen=True, slots=True)
class GrantTerms:
    """How prepaid credits may be used."""

    reference: str  # of the payment
    priority: int = 0  # lower is drawn first
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Prepaid:
    """Methods block. The ledger entry of a grant follows from its row: `billing.ledger.grant_postings`."""

    database: Database
    clock: Clock
    audit: AuditLog
    actor: str = "billing"

    def add(self, grant: str, organization: OrganizationId, amount: Money, terms: GrantTerms) -> None:
        """Book what was bought. The same id again changes nothing. Raises InvalidInput, Conflict."""
        if not Money.zero(amount.currency) < amount:
            raise InvalidInput.single(grant, "amount", str(amount), "more than 0")
        refuse_parts(amount, grant)
        now_ms = self.clock.now_ms()
        values = {
            "grant_id": grant,
            "organization": organization,
            "currency": amount.currency.code,
            "minor_units": minor_units_of(amount),
            "priority": terms.priority,
            "expires_ms": terms.expires_ms,
            "reference": terms.reference,
        }

        def write(connection: sa.Connection) -> None:
            lock_organization(connection, organization)
            stored = connection.execute(sa.select(grants).filter_by(grant_id=grant)).mappings().first()
            if stored is not None:
                if any(stored[name] != value for name, value in values.items()):
                    raise Conflict(f"prepaid credit {grant} is booked with other terms")
                return
            connection.execute(grants.insert().values(**values, granted_ms=now_ms, actor=self.actor))
            self.audit.append(connection, self.actor, "credit.grant", grant, {"amount": str(amount)})

        self.database.transact(write)


class Wallets:
    """What organizations have left, as the documents of one transaction draw on it one after the other."""

    def __init__(self, connection: sa.Connection, organizations: Iterable[OrganizationId]) -> None:
        self._connection = connection
        self._owners = _with_grants(connection, organizations)
        self._left: dict[tuple[OrganizationId, Currency], Sequence[Grant]] = {}

    def draw(self, organization: OrganizationId, due: Money, moment_ms: int) -> tuple[tuple[Draw, ...], Money]:
        """What is taken for `due`, and what remains to be paid; the next draw finds what is left."""
        if organization not in self._owners:
            return (), due
        key = organization, due.currency
        if key not in self._left:
            self._left[key] = load_grants(self._connection, organization, due.currency)
        drawn, remains = draw(self._left[key], due, moment_ms)
        self._left[key] = after(self._left[key], drawn)
        return drawn, remains


def _with_grants(connection: sa.Connection, organizations: Iterable[OrganizationId]) -> frozenset[str]:
    found: set[str] = set()
    ordered = sorted(set(organizations))
    for start in range(0, len(ordered), 500):
        part = grants.c.organization.in_(ordered[start : start + 500])
        found.update(connection.execute(sa.select(grants.c.organization).distinct().where(part)).scalars())
    return frozenset(found)


def load_grants(connection: sa.Connection, organization: OrganizationId, unit: Currency) -> list[Grant]:
    """An organization's grants in one currency, with what documents have left of them."""
    spent = sa.select(draws.c.grant_id, sa.func.sum(draws.c.minor_units).label("spent")).group_by(draws.c.grant_id)
    spent_by = spent.where(draws.c.grant_id.in_(_ids(organization))).subquery()
    query = (
        sa.select(grants, sa.func.coalesce(spent_by.c.spent, 0).label("spent"))
        .outerjoin(spent_by, spent_by.c.grant_id == grants.c.grant_id)
        .where(grants.c.organization == organization, grants.c.currency == unit.code)
        .order_by(grants.c.grant_id)
    )
    return [
        Grant(
            row.grant_id,
            row.granted_ms,
            row.expires_ms,
            row.priority,
            money_of_minor(row.minor_units - int(row.spent), unit),
        )
        for row in connection.execute(query)
    ]


def _ids(organization: OrganizationId) -> sa.Select[tuple[str]]:
    return sa.select(grants.c.grant_id).where(grants.c.organization == organization)
