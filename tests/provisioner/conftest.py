"""Fixtures: a migrated SQLite database, and a world on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.migrate import migrate
from kernel.database import Database, sqlite_url
from tests.provisioner.world import World, make_world


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(sqlite_url(tmp_path / "byoc.sqlite"))
    migrate(made)
    yield made
    made.close()


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)
