"""The contract book: contracts, licences and price books, added whole or not at all, never changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from billing.admission import admission_findings
from billing.agreed import AgreedContract
from billing.amendments import contract_findings, licence_findings
from billing.contract import Contract, parse_contract
from billing.documents import Snapshot, render_content
from billing.licence import Licence, capacity_of, parse_licence
from billing.models import contracts, invoices, licences, price_books
from billing.prices import PriceBook, parse_price_book
from billing.renewing import is_renewal_due, next_id, renewed_contract, renewed_licences
from billing.store import (
    add_snapshot,
    agree_stored,
    load_contract,
    load_contracts,
    load_licences,
    load_price_book,
    lock_organization,
)
from kernel.audit import AuditLog
from kernel.clock import Clock
from kernel.database import Database
from kernel.errors import NotFound, raise_findings
from kernel.ids import OrganizationId
from kernel.lines import naming_lines
from kernel.steps import StepFunction
from kernel.window import month


@dataclass(frozen=True, slots=True)
class ContractBook:
    """Methods block; call them from a worker thread. Adding the same text again changes nothing."""

    database: Database
    clock: Clock
    audit: AuditLog
    meters: Collection[str] | None = None  # that a contract may charge for; None: any

    def add_price_book(self, text: str, source: str, actor: str) -> PriceBook:
        """Store a version of a price book. Raises InvalidInput, SnapshotConflict."""
        book, snapshot = parse_price_book(text, source), Snapshot.of(text)

        def add(connection: sa.Connection) -> None:
            key = {"book": book.price_book, "version": book.version}
            if add_snapshot(connection, price_books, key, self._stored(snapshot, source), source):
                self._record(connection, actor, "price.add", key, snapshot)

        with naming_lines(text, source):
            self.database.transact(add)
        return book

    def add_contract(self, text: str, source: str, actor: str) -> Contract:
        """Store a contract, or an amendment as its next version. Raises InvalidInput, SnapshotConflict."""
        contract = parse_contract(text, source)
        with naming_lines(text, source):
            self.database.transact(lambda connection: self._add_contract(connection, contract, text, source, actor))
        return contract

    def add_licence(self, text: str, source: str, actor: str) -> Licence:
        """Store a licence, or an amendment as its next version. Raises InvalidInput, SnapshotConflict."""
        licence = parse_licence(text, source)
        with naming_lines(text, source):
            self.database.transact(lambda connection: self._add_licence(connection, licence, text, source, actor))
        return licence

    def renew(self, contract: str, actor: str) -> Contract:
        """Store the contract and licences of the next term, all or nothing; again changes nothing.

        Raises NotFound, Conflict: also when notice was given until the moment that it is stored.
        """
        organization = OrganizationId(self.contract(contract).contract.organization)

        def renew(connection: sa.Connection) -> Contract:
            lock_organization(connection, organization)
            (following, text), *texts = self._renewal(connection, contract)
            renewed = parse_contract(text, following)
            self._add_contract(connection, renewed, text, following, actor)
            for name, licence in texts:
                self._add_licence(connection, parse_licence(licence, name), licence, name, actor)
            return renewed

        return self.database.transact(renew)

    def renewal(self, contract: str) -> list[tuple[str, str]]:
        """Ids and texts of what `renew` stores, the contract's first. Stores nothing. Raises as it does."""
        return self.database.read(lambda connection: self._renewal(connection, contract))

    def renewals_due(self) -> list[str]:
        """Contracts whose next term is not stored though notice can't be given any more, by id."""
        now_ms = self.clock.now_ms()
        stored = {one.contract.contract: one.contract for one in self.contracts()}
        return [name for name, one in stored.items() if next_id(name) not in stored and is_renewal_due(one, now_ms)]

    def contract(self, contract: str) -> AgreedContract:
        """The newest version of a contract. Raises NotFound."""
        return self.database.transact(lambda connection: load_contract(connection, contract))

    def contracts(self, organization: OrganizationId | None = None) -> list[AgreedContract]:
        """The newest version of each contract (of one organization), by id."""
        return self.database.transact(lambda connection: load_contracts(connection, organization))

    def licences(self, organization: OrganizationId | None = None) -> list[Licence]:
        """The newest version of each licence (of one organization), by id."""
        return self.database.transact(lambda connection: load_licences(connection, organization))

    def price_book(self, book: str, version: int | None = None) -> PriceBook:
        """A version of a price book (None: the newest). Raises NotFound."""
        return self.database.transact(lambda connection: load_price_book(connection, book, version))[0]

    def capacity(self, organization: OrganizationId) -> StepFunction:
        """The licensed milli-vCPU over time, zero where no licence is valid."""
        return capacity_of(self.licences(organization))

    def _add_contract(
        self, connection: sa.Connection, contract: Contract, text: str, source: str, actor: str
    ) -> None:
        organization, snapshot = OrganizationId(contract.organization), Snapshot.of(text)
        lock_organization(connection, organization)
        agree_stored(connection, contract, snapshot, source)
        key = {"contract": contract.contract, "version": contract.version}
        before = [known.contract for known in load_contracts(connection, organization, contract.contract)]
        values = {"organization": organization, **self._stored(snapshot, source)}
        if add_snapshot(connection, contracts, key, values, source):
            invoiced = _invoiced_until_ms(connection, contract)
            raise_findings(
                [
                    *admission_findings(contract, self.meters, source),
                    *contract_findings(contract, before, invoiced, source),
                ]
            )
            self._record(connection, actor, "contract.add", key, snapshot)

    def _add_licence(self, connection: sa.Connection, licence: Licence, text: str, source: str, actor: str) -> None:
        organization, snapshot = OrganizationId(licence.organization), Snapshot.of(text)
        lock_organization(connection, organization)
        key = {"licence": licence.licence, "version": licence.version}
        before = load_licences(connection, organization, licence.licence)
        values = {"organization": organization, **self._stored(snapshot, source)}
        if add_snapshot(connection, licences, key, values, source):
            contract = _contract_or_none(connection, licence.contract)
            raise_findings(licence_findings(licence, before, contract, source))
            self._record(connection, actor, "licence.add", key, snapshot)

    def _renewal(self, connection: sa.Connection, contract: str) -> list[tuple[str, str]]:
        agreed = load_contract(connection, contract)
        following, text = renewed_contract(agreed.contract, agreed.snapshot.text, self.clock.now_ms())
        known = load_licences(connection, OrganizationId(agreed.contract.organization))
        end = parse_contract(text, following).term.end
        return [(following, text), *renewed_licences(agreed.contract, known, end)]

    def _stored(self, snapshot: Snapshot, source: str) -> dict[str, str | int]:
        content = render_content(snapshot.text, source)
        texts = {"snapshot": snapshot.text, "sha256": snapshot.sha256, "content": content}
        return {**texts, "added_ms": self.clock.now_ms()}

    def _record(
        self, connection: sa.Connection, actor: str, action: str, key: Mapping[str, object], snapshot: Snapshot
    ) -> None:
        identifier, version = key.values()
        details = {"version": str(version), "sha256": snapshot.sha256}
        self.audit.append(connection, actor, action, str(identifier), details)


def _contract_or_none(connection: sa.Connection, contract: str) -> Contract | None:
    try:
        return load_contract(connection, contract).contract
    except NotFound:
        return None


def _invoiced_until_ms(connection: sa.Connection, contract: Contract) -> int:
    query = sa.select(sa.func.max(invoices.c.period)).where(
        invoices.c.contract == contract.contract, invoices.c.kind == "usage"
    )
    latest = connection.execute(query).scalar()
    return month(latest.partition(".")[0], contract.time_zone).end_ms if latest else 0
