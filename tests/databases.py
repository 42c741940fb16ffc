"""A SQLite file with the newest schema, made once in a process; tests take copies of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from console.migrate import migrate
from kernel.database import Database, sqlite_url


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
