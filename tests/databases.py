"""Databases with the newest schema, on SQLite and PostgreSQL: made once in a process; tests take copies."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa

from console.migrate import migrate
from kernel.database import Database, sqlite_url
from tests.services.postgres import PostgresServer


def open_migrated(path: Path) -> Database:
    """A new database in `path`; the caller closes it."""
    path.write_bytes(_migrated())
    return Database(sqlite_url(path))


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "byoc.sqlite"))
        migrate(database)
        database.close()  # the last connection brings the write-ahead log into the file
        return (Path(folder) / "byoc.sqlite").read_bytes()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of a database that nobody is connected to: migrating takes a second, copying does not."""
    with postgres_server.database() as url:
        database = Database(url)
        migrate(database)
        database.close()
        yield str(sa.make_url(url).database)


@pytest.fixture
def migrated_postgres_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own with the newest schema."""
    with postgres_server.database(migrated_template) as url:
        yield url
