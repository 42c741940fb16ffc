"""Databases for billing's tests: each test that asks for `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from console.migrate import migrate
from kernel.database import Database
from tests.billing.deals import Office
from tests.databases import open_migrated

if TYPE_CHECKING:
    from tests.billing.billed_world import Billed


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


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Billed:
    """Made once, as it takes seconds; what changes it takes `billed`."""
    from tests.billing.billed_world import bill

    return asyncio.run(bill(tmp_path_factory.mktemp("billed")))


@pytest.fixture
def billed(original: Billed, tmp_path: Path) -> Billed:
    """A copy of what its customer has."""
    return original.copy(tmp_path)


@pytest.fixture(scope="session")
def original_filled(tmp_path_factory: pytest.TempPathFactory) -> Billed:
    """Likewise of a contract that has gaps filled, with two projects and a backfill."""
    from tests.billing.billed_world import Plan, bill

    plan = Plan("gap_policy: hold-last\n", of_b="dev", backfilled=frozenset({40, 41}))
    return asyncio.run(bill(tmp_path_factory.mktemp("filled"), plan))


@pytest.fixture
def filled(original_filled: Billed, tmp_path: Path) -> Billed:
    """A copy of what its customer has."""
    return original_filled.copy(tmp_path)


@pytest.fixture(scope="session")
def original_corrected(tmp_path_factory: pytest.TempPathFactory) -> Billed:
    """An invoice that corrects the one before, and has a true-up of both months."""
    from tests.billing.corrected_world import PART_MS, TRUE_UP, Deal, bill_and_correct

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("billing.proof.sections.MOST_MS", PART_MS)
        return asyncio.run(bill_and_correct(tmp_path_factory.mktemp("corrected"), Deal(TRUE_UP)))


@pytest.fixture(scope="session")
def original_credited(tmp_path_factory: pytest.TempPathFactory) -> Billed:
    """A credit note, as late usage was above a tier and made all of it cheaper."""
    from tests.billing.corrected_world import CHEAPER, Deal, bill_and_correct

    return asyncio.run(bill_and_correct(tmp_path_factory.mktemp("credited"), Deal(of_row_hours=CHEAPER)))


@pytest.fixture
def corrected(original_corrected: Billed, tmp_path: Path) -> Billed:
    """A copy of what its customer has."""
    return original_corrected.copy(tmp_path)
