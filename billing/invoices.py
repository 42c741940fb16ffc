"""Issued documents as they are stored, and reading them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from billing.life import Event, LifeEvent, State, state_after
from billing.models import events, invoices
from kernel.errors import NotFound
from kernel.ids import OrganizationId

_OF_CONTRACTS = (
    sa.select(invoices)
    .where(invoices.c.contract.in_(sa.bindparam("contracts", expanding=True)))
    .order_by(invoices.c.legal_entity, invoices.c.year, invoices.c.sequence)
)


@dataclass(frozen=True, slots=True)
class Invoice:
    """An issued document as it is stored. `json` is the canonical document and never changes."""

    number: str
    organization: OrganizationId
    contract: str
    kind: str  # usage, commitment, threshold or credit-note
    period: str  # YYYY-MM, first day of a commitment, number that is credited; `.n` is the n-th of its kind
    currency: str
    gross: str  # decimal string, major units
    issued_ms: int
    content_sha256: str  # of the draft it was made from
    sha256: str  # of `json`
    json: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The parsed JSON."""
        parsed: dict[str, Any] = json.loads(self.json)
        return parsed


@dataclass(frozen=True, slots=True)
class Issued:
    """The documents of one contract, first to last; `standing` are those that are not void."""

    documents: tuple[Invoice, ...] = ()
    standing: tuple[Invoice, ...] = ()

    def issues(self, kind: str, period: str) -> int:
        """How many documents of that kind there were for one period."""
        names = (one.period for one in self.documents if one.kind == kind)
        return sum(name == period or name.startswith(f"{period}.") for name in names)

    def months(self, kind: str) -> frozenset[str]:
        """The months, YYYY-MM, of documents of that kind that stand."""
        return frozenset(one.period.partition(".")[0] for one in self.standing if one.kind == kind)


def load_issued(connection: sa.Connection, contracts: Sequence[str]) -> dict[str, Issued]:
    """What was issued under each of some contracts: two queries for all of them."""
    found: dict[str, list[Invoice]] = {contract: [] for contract in contracts}
    for row in connection.execute(_OF_CONTRACTS, {"contracts": list(found)}):
        found[row.contract].append(_invoice(row))
    stands = {one.number for one in standing(connection, (one for each in found.values() for one in each))}
    return {
        contract: Issued(tuple(each), tuple(one for one in each if one.number in stands))
        for contract, each in found.items()
    }


def find_issues(connection: sa.Connection, contract: str, kind: str, period: str) -> list[Invoice]:
    """All documents of that kind for one period of a contract, first to last: a void one may be issued again."""
    query = (
        sa.select(invoices)
        .where(invoices.c.contract == contract, invoices.c.kind == kind)
        .where((invoices.c.period == period) | invoices.c.period.startswith(f"{period}.", autoescape=True))
        .order_by(invoices.c.issued_ms, invoices.c.sequence)
    )
    return [_invoice(row) for row in connection.execute(query)]


def find_all_issues(
    connection: sa.Connection, wanted: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], list[Invoice]]:
    """`find_issues` for many of (contract, kind, period)."""
    found: dict[tuple[str, str, str], list[Invoice]] = {key: [] for key in wanted}
    ordered = sorted({contract for contract, _, _ in found})
    for start in range(0, len(ordered), 500):
        part = invoices.c.contract.in_(ordered[start : start + 500])
        kinds = invoices.c.kind.in_({kind for _, kind, _ in found})
        query = sa.select(invoices).where(part, kinds).order_by(invoices.c.issued_ms, invoices.c.sequence)
        for row in connection.execute(query):
            for period in {row.period, row.period.rpartition(".")[0]}:
                key = (row.contract, row.kind, period)
                if key in found:
                    found[key].append(_invoice(row))
    return found


def find_invoice(connection: sa.Connection, contract: str, kind: str, period: str) -> Invoice | None:
    """The document of a contract's period that counts: issued and not void."""
    found = find_issues(connection, contract, kind, period)
    return found[-1] if found and state_of(connection, found[-1].number) is not State.VOID else None


def load_invoice(connection: sa.Connection, number: str) -> Invoice:
    """The document of that number. Raises NotFound."""
    row = connection.execute(sa.select(invoices).where(invoices.c.number == number)).first()
    if row is None:
        raise NotFound(f"there is no invoice {number!r}; `byoc invoice list` shows what was issued")
    return _invoice(row)


def load_invoices(
    connection: sa.Connection, organization: OrganizationId | None = None, contract: str | None = None
) -> list[Invoice]:
    """All documents (of one organization, of one contract), in order of their series."""
    query = sa.select(invoices).order_by(invoices.c.legal_entity, invoices.c.year, invoices.c.sequence)
    if organization is not None:
        query = query.where(invoices.c.organization == organization)
    if contract is not None:
        query = query.where(invoices.c.contract == contract)
    return [_invoice(row) for row in connection.execute(query)]


def find_documents(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Invoice]:
    """The documents of a condition, in order of issue."""
    query = sa.select(invoices).where(condition).order_by(invoices.c.issued_ms, invoices.c.sequence)
    return [_invoice(row) for row in connection.execute(query)]


def load_events(connection: sa.Connection, numbers: Iterable[str]) -> dict[str, list[LifeEvent]]:
    """The events of some documents, by number, in their order."""
    wanted = sorted(set(numbers))
    found: dict[str, list[LifeEvent]] = {number: [] for number in wanted}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        query = sa.select(events).where(events.c.number.in_(part)).order_by(events.c.number, events.c.position)
        for row in connection.execute(query):
            event = LifeEvent(Event(row.event), row.at_ms, row.actor, row.minor_units, row.reference)
            found[row.number].append(event)
    return found


def state_of(connection: sa.Connection, number: str) -> State:
    """Where a document is in its life."""
    return state_after(number, load_events(connection, [number])[number])


def standing(connection: sa.Connection, documents: Iterable[Invoice]) -> list[Invoice]:
    """Those that are not void."""
    documents = list(documents)
    happened = load_events(connection, (one.number for one in documents))
    return [one for one in documents if state_after(one.number, happened[one.number]) is not State.VOID]


def _invoice(row: Any) -> Invoice:
    return Invoice(
        number=row.number,
        organization=OrganizationId(row.organization),
        contract=row.contract,
        kind=row.kind,
        period=row.period,
        currency=row.currency,
        gross=row.gross,
        issued_ms=row.issued_ms,
        content_sha256=row.content_sha256,
        sha256=row.sha256,
        json=row.document.encode(),
    )
