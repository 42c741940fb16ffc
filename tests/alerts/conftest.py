"""Databases (both kinds) and worlds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from console.migrate import migrate
from kernel.database import Database
from tests.alerts.receiver import Receiver
from tests.alerts.world import World, receiver_settings, rules
from tests.databases import open_migrated

MakeWorld = Callable[..., Awaitable[World]]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        database = open_migrated(tmp_path / "byoc.sqlite")
    else:
        database = Database(request.getfixturevalue("migrated_postgres_url"))
        migrate(database)
    yield database
    database.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()
    assert receiver.bad_signatures == []


@pytest.fixture
async def make_world(database: Database, tmp_path: Path, receiver: Receiver) -> AsyncIterator[MakeWorld]:
    worlds: list[World] = []

    async def make(text: str | None = None, receivers: Sequence[dict[str, Any]] | None = None) -> World:
        chosen = [receiver_settings(receiver)] if receivers is None else receivers
        world = World(database, tmp_path, text or rules(), chosen)
        await world.start()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        await world.stop()
