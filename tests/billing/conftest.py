"""Databases for billing's tests: each test that asks for `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.migrate import migrate
from kernel.database import Database
from tests.billing.deals import Office
from tests.databases import open_migrated


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = open_migrated(tmp_path / "byoc.sqlite")
    yield database
    database.close()


@pytest.fixture
def postgresql(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url)
    migrate(database)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest) -> Database:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Database)
    return found


@pytest.fixture
def office(database: Database) -> Office:
    return Office(database)


@pytest.fixture
def small_office(sqlite: Database) -> Office:
    """On SQLite alone, for what does not depend on the database."""
    return Office(sqlite)
