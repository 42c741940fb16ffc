"""Reading and writing the stored snapshots of contracts, licences and price books, inside a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa

from billing.agreed import AgreedContract, agree
from billing.contract import Contract
from billing.documents import Snapshot, parse_content, parse_document
from billing.errors import SnapshotConflict
from billing.licence import Licence
from billing.models import accounts, contracts, licences, price_books
from billing.prices import PriceBook
from kernel.database import insert
from kernel.errors import InvalidInput, NotFound
from kernel.ids import OrganizationId

T = TypeVar("T", Contract, Licence, PriceBook)

_versions = contracts.alias("versions")
_CONTRACTS_OF = (
    sa.select(contracts)
    .where(contracts.c.organization.in_(sa.bindparam("organizations", expanding=True)))
    .where(
        contracts.c.version
        == sa.select(sa.func.max(_versions.c.version))
        .where(_versions.c.contract == contracts.c.contract)
        .scalar_subquery()
    )
    .order_by(contracts.c.contract)
)


def insert_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> None:
    """Insert unless the key is there. Never updates."""
    connection.execute(insert(connection, table).values(values).on_conflict_do_nothing())


def lock_organization(connection: sa.Connection, organization: OrganizationId) -> None:
    """Hold the organization's row until the transaction ends: reservations and amendments go one by one."""
    lock_organizations(connection, {organization})


def lock_organizations(connection: sa.Connection, organizations: Iterable[OrganizationId]) -> None:
    """Hold the rows of several, always in the same order, so that no two transactions wait for each other."""
    ordered = sorted(organizations)
    rows = [{"organization": organization} for organization in ordered]
    if rows:
        connection.execute(insert(connection, accounts).on_conflict_do_nothing(), rows)
    for start in range(0, len(ordered), 500):
        part = accounts.c.organization.in_(ordered[start : start + 500])
        query = sa.select(accounts.c.organization).where(part).order_by(accounts.c.organization)
        connection.execute(query.with_for_update())


def add_snapshot(
    connection: sa.Connection, table: sa.Table, key: dict[str, Any], values: dict[str, Any], source: str
) -> bool:
    """Store one version; False when the same text is stored already.

    Raises SnapshotConflict when another text is; InvalidInput when the version before is missing.
    """
    (kind, identifier), (_, version) = key.items()
    stored = connection.execute(sa.select(table.c.sha256).filter_by(**key)).scalar()
    if stored == values["sha256"]:
        return False
    if stored is not None:
        stored_as = f"{kind} {identifier} version {version} is stored with another text"
        raise SnapshotConflict(f"{source}: {stored_as}; a change is a new version")
    newest = connection.execute(sa.select(sa.func.max(table.c.version)).filter_by(**{kind: identifier})).scalar()
    if version != (newest or 0) + 1:
        allowed = f"{(newest or 0) + 1}, the next one of {kind} {identifier}"
        raise InvalidInput.single(source, "version", version, allowed)
    connection.execute(table.insert().values(**key, **values))
    return True


def load_contract(connection: sa.Connection, contract: str) -> AgreedContract:
    """The newest version of a contract. Raises NotFound."""
    row = _newest(connection, contracts, "contract", contract)
    if row is None:
        raise NotFound(f"there is no contract {contract!r}; `byoc contract list` shows what there is")
    return _agreed(connection, row)


def load_contracts(
    connection: sa.Connection, organization: OrganizationId | None = None, also: str | None = None
) -> list[AgreedContract]:
    """The newest version of each contract (of one organization, and of the contract `also`), by id."""
    rows = _all_newest(connection, contracts, "contract", organization, also)
    return [_agreed(connection, row) for row in rows]


def load_contracts_of(
    connection: sa.Connection, organizations: Sequence[OrganizationId]
) -> dict[OrganizationId, list[AgreedContract]]:
    """The newest version of each contract of some organizations: one query for all of them."""
    found: dict[OrganizationId, list[AgreedContract]] = {one: [] for one in organizations}
    for row in connection.execute(_CONTRACTS_OF, {"organizations": list(found)}):
        found[OrganizationId(row.organization)].append(_agreed(connection, row))
    return found


def load_licences(
    connection: sa.Connection, organization: OrganizationId | None = None, also: str | None = None
) -> list[Licence]:
    """The newest version of each licence (of one organization, and of the licence `also`), by id."""
    rows = _all_newest(connection, licences, "licence", organization, also)
    return [_parse(row, row.licence, Licence) for row in rows]


def load_price_book(connection: sa.Connection, book: str, version: int | None = None) -> tuple[PriceBook, Snapshot]:
    """A version of a price book (None: the newest). Raises NotFound."""
    query = sa.select(price_books).where(price_books.c.book == book).order_by(price_books.c.version.desc()).limit(1)
    row = connection.execute(query if version is None else query.where(price_books.c.version == version)).first()
    if row is None:
        wanted = f"price book {book!r}" + (f" version {version}" if version else "")
        raise NotFound(f"there is no {wanted}; add it with `byoc price add FILE`")
    return _parse(row, book, PriceBook), Snapshot(row.snapshot, row.sha256)


def agree_stored(connection: sa.Connection, contract: Contract, snapshot: Snapshot, source: str) -> AgreedContract:
    """The contract with the prices of stored books. Raises InvalidInput when a book does not give one."""
    return agree(contract, snapshot, lambda name, version: load_price_book(connection, name, version), source)


def _agreed(connection: sa.Connection, row: Any) -> AgreedContract:
    contract = _parse(row, row.contract, Contract)
    return agree_stored(connection, contract, Snapshot(row.snapshot, row.sha256), row.contract)


@lru_cache(maxsize=20_000)  # stored texts never change; parsing is most of what reading them costs
def _parse_stored(model: type[T], text: str, content: str | None, source: str) -> T:
    """What was checked as a whole when it was stored is only read here."""
    parsed: T = parse_content(content, source, model) if content else parse_document(text, source, model)
    return parsed


def _parse(row: Any, identifier: str, model: type[T]) -> T:
    parsed: T = _parse_stored(model, row.snapshot, row.content, f"{identifier} version {row.version}")
    return parsed


def _newest(connection: sa.Connection, table: sa.Table, kind: str, identifier: str) -> Any:
    query = sa.select(table).filter_by(**{kind: identifier}).order_by(table.c.version.desc()).limit(1)
    return connection.execute(query).first()


def _all_newest(
    connection: sa.Connection, table: sa.Table, kind: str, organization: OrganizationId | None, also: str | None
) -> list[Any]:
    wanted = table.c.organization == organization
    if also is not None:
        wanted |= table.c[kind] == also
    newest = sa.select(table.c[kind], sa.func.max(table.c.version).label("version")).group_by(table.c[kind])
    if organization is not None:  # by index: else the maximum is taken over every customer's documents
        newest = newest.where(table.c[kind].in_(sa.select(table.c[kind]).where(wanted)))
    latest = newest.subquery()
    query = sa.select(table).join(latest, (table.c[kind] == latest.c[kind]) & (table.c.version == latest.c.version))
    if organization is not None:
        query = query.where(wanted)
    return list(connection.execute(query.order_by(table.c[kind])))
