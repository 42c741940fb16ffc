"""Fixtures: a migrated SQLite database, and a world on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.database import Database
from tests.databases import open_migrated
from tests.provisioner.world import World, make_world


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_migrated(tmp_path / "byoc.sqlite")
    yield made
    made.close()


@pytest.fixture
async def world(database: Database) -> World:
    return await make_world(database)
